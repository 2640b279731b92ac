"""The commands of `driftline`, one module a noun."""
