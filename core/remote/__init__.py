"""Lines to other machines: the `ssh` process, what is said over it, and making it again."""
