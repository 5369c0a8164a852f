"""A first config for somebody's own text: looked at, chosen, written.

Other rooms read `start` (start).
"""
