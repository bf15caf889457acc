"""The Hugging Face cache: its layout, what it holds, and how things are deleted from it."""
