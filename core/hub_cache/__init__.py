"""The Hugging Face cache: layout, scanning, and deleting."""
