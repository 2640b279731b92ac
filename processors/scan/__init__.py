"""The scanner: takes units of work, looks, and publishes what it saw."""
