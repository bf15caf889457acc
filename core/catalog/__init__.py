"""What models there are: the built-in list, the Hub, and what files say about themselves."""
