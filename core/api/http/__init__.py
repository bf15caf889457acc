"""HTTP/1.1 and WebSocket server that every API dialect stands on."""
