"""Work beside the screen of the dashboard."""
