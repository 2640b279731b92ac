"""Embedded servers and the lab: what one machine needs."""
