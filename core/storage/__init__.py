"""Files that are written in one step, and what makes them durable."""
