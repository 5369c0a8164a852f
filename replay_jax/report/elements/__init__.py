"""What reports are made of: blocks, numbers in words, the look, and what is known of the plan."""
