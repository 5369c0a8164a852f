"""One training: optimizer, sharded step, checkpoints, evaluation and the loop."""
