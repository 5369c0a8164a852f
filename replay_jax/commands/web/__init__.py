"""Commands about web navigation."""
