"""Many trainings: planned, carried out, and known to be done."""
