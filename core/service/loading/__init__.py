"""Loaded models: planning, forecasting, loading and unloading."""
