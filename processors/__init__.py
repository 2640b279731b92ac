"""Look, then understand."""
