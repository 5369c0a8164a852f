"""Carries a plan out, and shows how far it is."""
