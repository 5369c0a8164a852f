"""Tokenizers, and memory-mapped stores of tokens made from sources."""
