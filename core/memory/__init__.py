"""What memory there is, what a process holds, and whether a model fits."""
