"""Catalog screen."""
