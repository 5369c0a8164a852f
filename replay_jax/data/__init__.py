"""Text to tokens to an exact, deterministic order of rows, and proof of what was drawn."""
