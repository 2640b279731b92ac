"""A probe, a rule and a sink of another package."""
