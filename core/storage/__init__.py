"""Files that other programs or people chose: opened without blocking, read with a time limit."""
