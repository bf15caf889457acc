"""Requests screen."""
