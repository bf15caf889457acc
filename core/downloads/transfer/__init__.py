"""Transfer of one file: parallel connections, written ranges, verification."""
