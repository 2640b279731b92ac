"""Judge, keep, show."""
