"""From facts about states to the records of runs, and their verification.

Other rooms read `record` (LedgerMismatch, build_result, description, final_keys, is_ready),
`verify` (mixed_environments, verify), `verify_data` (verify_data).
"""
