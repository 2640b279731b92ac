"""The events of Driftline, one module a family. `schemas.topics` says which topic carries which."""
