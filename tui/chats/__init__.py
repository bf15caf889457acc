"""Conversations with models as both front ends keep them: tree, store, search, export, files."""
