"""The planner: requests for a look, matched against the grants, become units of work and a run."""
