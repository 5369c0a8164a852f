"""Tables of a study, of its runs and of tasks."""
