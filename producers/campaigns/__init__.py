"""Campaigns: standing wishes to look at targets, which the scheduler carries out."""
