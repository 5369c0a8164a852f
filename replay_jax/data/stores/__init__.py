"""Finished stores side by side: what of them is nearly the same, and what no store needs.

Other rooms read `near_copies` (find_near_copies, known_near_copies, near_sentence), `superseded`
(Superseded, is_store_folder, remove_superseded, superseded).
"""
