"""Storage: the database, the log, own files written atomically, foreign files opened safely."""
