"""From result records to comparisons between cells.

Other rooms read `analyse` (analyse_anyway), `comparisons` (difference), `groups` (Cell, CellKey,
group_records, recipe), `records` (ADDED, AnalysisConfig, MISSING, RECORD, check_record, find,
load_records, stored_analysis, text), `selection` (Records, baseline, best_replay, competes,
focus_budget, group_words, knob_words, loss_of, other_settings, recipe_words, records_of, row_of,
rows_of_replay, schedules, seeds_of, setting_words, short, shown_fits, shown_rows), `spent` (SAME,
Spent, amount, spent), `stopping` (NOTE), `study` (CellResult, Edge, SettingResult, Study,
TargetStudy, replays), `task_scores` (TaskResult, accuracy_before, by_group, task_names,
task_results, two_way_interval).
"""
