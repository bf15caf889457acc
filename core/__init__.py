"""Everything of modeldeck that works without a terminal: the service, its API, and its client."""

__version__ = "0.1.0"
"""Of the distribution: pyproject.toml reads it here. Metadata of the installed package says the
same, but takes longer to read than a quick command has."""
