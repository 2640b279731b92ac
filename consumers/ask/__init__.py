"""Questions in plain words, answered from ClickHouse: what may be asked, and what of a model's answer counts. Pure."""
