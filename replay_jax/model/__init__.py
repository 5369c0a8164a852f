"""The decoder, its attention and its loss, as pure functions of parameters."""
