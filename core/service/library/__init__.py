"""Known models: listing, pulling, verifying, copying and deleting."""
