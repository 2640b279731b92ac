"""What other scanners found: their files, read as a stream, imported as observations of a zone, and compared."""
