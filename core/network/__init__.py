"""Rules for every request that leaves this machine: whether, which way, and what answers mean."""
