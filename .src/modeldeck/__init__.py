"""A control room for local language models that lives in a terminal."""
