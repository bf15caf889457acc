"""Cores on other machines."""
