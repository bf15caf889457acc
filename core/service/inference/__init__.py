"""Answers of models to requests, and the records of those requests."""
