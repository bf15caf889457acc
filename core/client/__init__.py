"""Client library: how a program talks to a core."""
