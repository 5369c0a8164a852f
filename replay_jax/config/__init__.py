"""What a user writes: config files, and the frozen configuration of one run."""
