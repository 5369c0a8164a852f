"""How many sequences and tokens of each source: planned, counted, and compared."""
