"""The engines themselves. They run in the child process only: the core never imports them."""
