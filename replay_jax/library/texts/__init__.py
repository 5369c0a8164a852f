"""What a loaded model makes of texts: tasks of lm_eval, and texts of its own.

Other rooms read `harness_tasks` (Asked, harness_scores, task_numbers, write_items), `writing`
(Wanted, write_texts).
"""
