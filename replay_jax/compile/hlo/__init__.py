"""Reads the text of compiled programs: what devices send to each other, loops followed.

Other rooms read `collectives` (Transfers, transfers).
"""
