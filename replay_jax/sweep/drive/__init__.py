"""Carries a plan out, and shows how far it is.

Other rooms read `coordinator` (Outcome), `drawing` (plan_lines, plan_tree, print_plan),
`durations` (duration), `engine` (KeptExecutor, run_sweep), `leftovers` (say_unsent), `patience`
(patience), `status` (render_status, sweep_status), `tracking` (send_to_wandb_again).
"""
