"""A Hub on loopback and tiny real models, for `modeldeck demo` and for the tests."""
