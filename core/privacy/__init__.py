"""Hiding secrets: tokens, passwords and signatures are never shown or written."""
