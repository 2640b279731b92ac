"""The contracts: events, ids, scope rules, topics, codec. Pure."""
