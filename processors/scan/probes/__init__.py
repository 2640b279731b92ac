"""The built-in probes, one module each. Their contract and their table are in `processors.scan.probe`."""
