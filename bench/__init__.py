"""Benchmarks: each one command, each printing a table and one JSON line."""
