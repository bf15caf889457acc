"""File formats of models, and names on the Hub."""
