"""The HTTP and WebSocket API: one listener, one table of routes."""
