"""Themes of the dashboard, and its style sheet: data only."""
