"""Reads the text of compiled programs: FLOPs, bytes moved, bytes sent."""
