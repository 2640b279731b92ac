"""Tests, in folders named by what they need."""
