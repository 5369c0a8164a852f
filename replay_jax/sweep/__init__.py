"""Many trainings: grids, shared prefixes, and what is known to be done."""
