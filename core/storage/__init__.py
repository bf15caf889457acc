"""Files: written in one step and durable, and those of others opened without blocking."""
