"""Routes that llama-server has besides OpenAI's."""
