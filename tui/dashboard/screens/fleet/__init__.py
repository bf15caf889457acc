"""Fleet screen."""
