"""The service behind the API: commands, wiring and the state feed."""
