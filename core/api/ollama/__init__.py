"""Routes of Ollama's API, below `/api`."""
