"""Edges as tasks of a Ray cluster.

Other rooms read `driver` (RayTasks).
"""
