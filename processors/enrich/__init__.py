"""Enrichment: what banners and headers say about a product. Pure; the rules are data in `rules/*.toml`."""
