"""A broker, a store and a scheduler in memory, on which the real engine runs under every fault that a seed can think of."""
