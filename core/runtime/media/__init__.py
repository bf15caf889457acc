"""The images and recordings of a request."""
