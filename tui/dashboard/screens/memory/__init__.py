"""Memory screen."""
