"""What is known to be done: facts on disk, results, and their verification."""
