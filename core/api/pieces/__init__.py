"""Routes of Pieces OS, the documented API."""
