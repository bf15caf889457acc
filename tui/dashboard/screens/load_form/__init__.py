"""The load form: how a model is loaded, with the memory that it would take."""
