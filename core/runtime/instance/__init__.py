"""One loaded model: its process, its request queue and its requests."""
