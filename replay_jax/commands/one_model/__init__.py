"""Commands that ask one model: what it scores, and what it writes.

Other rooms read `arguments` (evaluate_command, generate_command).
"""
