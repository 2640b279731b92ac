"""What the probes stand on: evidence, conversations, programs, certificates, paths."""
