"""Whose an asset is and what should be there: read from what NetBox, Kubernetes and AWS print, and kept in step with it."""
