"""A budget in place of a grid: which planned runs come next, and when a study is over.

Other rooms read `goal` (Goal, find), `planned` (Grid, grid_of), `rule` (Decision, Rules, decide,
least).
"""
