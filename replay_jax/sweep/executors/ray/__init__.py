"""Edges as tasks of a Ray cluster."""
