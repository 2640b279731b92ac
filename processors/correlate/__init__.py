"""Correlate: what changed, joined with inventory and intelligence, judged by rules into exposures."""
