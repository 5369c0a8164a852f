"""From stores to batches: which rows a run may draw, in which order."""
