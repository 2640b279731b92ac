"""What Driftline stands on: core, adapters, the local machine, the command line."""
