"""States on disk: written in the background, whole or not at all, checked when read.

Other rooms read `checkpoint` (Checkpointer, params_alone, restore_params, restore_state), `saved`
(DamagedCheckpoint, delete, is_complete, read_meta, remove_unfinished).
"""
