"""`run --budget` and `--until`: a sweep in portions, each chosen by what the last one said.

Other rooms read `run` (run_within).
"""
