"""Memory: measuring the machine and processes, and estimating models."""
