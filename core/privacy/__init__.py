"""What must never be shown or written: tokens, passwords and signatures."""
