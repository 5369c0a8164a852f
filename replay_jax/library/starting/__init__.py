"""A first config for somebody's own text: looked at, chosen, written.

Other rooms read `sizes` (Start), `start` (start, start_tuning), `tuning` (Tuning).
"""
