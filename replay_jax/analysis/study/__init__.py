"""From result records to comparisons between cells.

Other rooms read `analyse` (analyse_anyway), `axes` (ALLOCATION, Place, TOKENS, as_number, axes,
lines, place_of), `comparisons` (difference), `groups` (Cell, CellKey, group_records, recipe),
`selection` (Records, best_replay, competes, focus_budget, group_words, knob_words,
loss_of, other_settings, recipe_words, records_of, row_of, rows_of_replay, schedules, seeds_of,
setting_words, short, shown_fits, shown_rows), `spent` (SAME, Spent, amount, spent), `stopping`
(NOTE), `study` (CellResult, Edge, SettingResult, Study, TargetStudy, replays), `task_scores`
(TaskResult, accuracy_before, by_group, task_names, task_results, two_way_interval), `tried`
(beside, dropped_words).
"""
