"""The paper's own values beside those of a study that asks the same.

Other rooms read `figure` (published_figures), `table` (published_table), `values` (best_cells,
choices).
"""
