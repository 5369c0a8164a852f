"""What runs are judged by besides held-out losses, and how much of it they trained on.

Other rooms read `few_shot` (few_shot), `overlap` (Judged, Overlap, held_out_rows, overlap,
right_answers, window_tokens), `tasks` (Task, TaskRows, TaskScore, find_task, load_task,
read_items, row_batches, score_rows, task_batches, task_rows).
"""
