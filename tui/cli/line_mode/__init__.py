"""`modeldeck chat`: conversations line by line, in the normal screen of the terminal."""
