"""Runs that were not trained here: from a place to a study of them.

Other rooms read `places` (Analysed, Spoken, analyse_place, analyse_wandb).
"""
