"""Where anybody's runs are read: tables, TensorBoard folders, W&B projects.

Other rooms read `files` (read_table), `frame` (analyse_frame, runs_of_frame), `logged` (Logged,
OWN_RECORD, table_of), `tensorboard` (read_tensorboard), `wandb_runs` (read_wandb).
"""
