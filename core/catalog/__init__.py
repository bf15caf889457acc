"""The model catalog: the built-in list, the Hub, and variants of repositories."""
