"""Commands and their options (click)."""
