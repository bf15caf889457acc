"""Answers that are kept for a while after they were given, and those that are being made."""
