"""Carries a plan out, and shows how far it is.

Other rooms read `coordinator` (Outcome), `drawing` (print_plan), `engine` (run_sweep), `status`
(render_status, sweep_status).
"""
