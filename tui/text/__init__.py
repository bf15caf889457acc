"""Records to text and text to records. Pure."""
