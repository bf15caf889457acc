"""The dashboard (Textual)."""
