"""Downloads screen."""
