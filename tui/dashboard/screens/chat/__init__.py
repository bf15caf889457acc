"""Chat screen."""
