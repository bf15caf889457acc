"""The engine process and the messages exchanged with it."""
