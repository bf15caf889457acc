"""Routes of modeldeck's own API, below `/deck`."""
