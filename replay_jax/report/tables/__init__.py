"""Tables of a study, of its runs and of tasks.

Other rooms read `advice_tables` (groups_table, next_table), `along_tables` (along_tables),
`boundary_tables` (boundary_table), `run_tables` (configuration, generic_sources_table,
ledger_tables, model_note, runs_table, settings_table, time_table, versions_table), `screen`
(rich_table), `study_tables` (controls_table, laws_table, losses_tables, minima_table,
reference_table), `task_tables` (task_tables).
"""
