"""Downloads that survive anything: the journal, the transfer of a file, and the queue."""
