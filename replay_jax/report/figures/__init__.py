"""Charts of a study and of its runs."""
