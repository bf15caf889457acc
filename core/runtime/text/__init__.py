"""Prompts made of conversations, and thoughts and calls of tools taken out of answers."""
