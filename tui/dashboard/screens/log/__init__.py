"""Log screen."""
