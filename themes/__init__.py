"""Themes of the dashboard: data only, which `tui/dashboard/theme.py` reads and checks."""
