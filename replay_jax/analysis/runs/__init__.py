"""Records of runs, and what a run says by itself.

Other rooms read `boundary` (BoundaryResult, boundary_of, shared_window), `records` (ADDED,
AnalysisConfig, MISSING, RECORD, allocation, check_losses, check_record, find, label,
load_records, look_up, matches, replay_fraction, stored_analysis, text), `replayed`.
"""
