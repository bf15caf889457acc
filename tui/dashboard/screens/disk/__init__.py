"""Disk screen."""
