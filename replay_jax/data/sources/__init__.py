"""Documents: where they come from, which are held out, and what an input is by content."""
