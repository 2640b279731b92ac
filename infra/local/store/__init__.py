"""The `store` role: the embedded ClickHouse engine behind an HTTP endpoint on loopback, and a schema registry's read calls."""
