"""A small network with real services, in network namespaces of this machine, to try Driftline on without probing anyone."""
