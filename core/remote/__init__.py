"""SSH connections to other machines: process, protocol and reconnection."""
