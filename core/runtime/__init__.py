"""Engines: one child process per loaded model, its owner task, and the planner."""
