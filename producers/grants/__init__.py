"""Grants: the keys that sign them, and issuing, amending, revoking and listing them."""
