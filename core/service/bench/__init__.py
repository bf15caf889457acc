"""Benchmarks of models: what is measured, how, and what is kept."""
