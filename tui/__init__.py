"""The terminal's side of modeldeck: the command line, and what it draws. A client of the API."""
