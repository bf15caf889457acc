"""Widgets that the views are made of; none of them knows the core."""
