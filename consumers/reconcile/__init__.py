"""The reconciler: counts what the topics say, and compares it with the dead letters and with what stands in ClickHouse."""
