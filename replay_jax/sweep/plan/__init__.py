"""A sweep before it is trained: runs, digests, the tree of what they share, what is left."""
