"""Reads the text of compiled programs: FLOPs, bytes moved, bytes sent.

Other rooms read `costs` (OpCost, ProgramCost, program_cost), `text` (parse_module).
"""
