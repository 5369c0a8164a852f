"""A study as one self-contained page, pictures, and tables for a terminal."""
