"""Text to tokens to an exact, deterministic order of rows."""
