"""What `import replay_jax` gives: plan, run, read, export; the commands call the same.

Other rooms read `dataset` (dataset), `evaluating` (Loaded, load_folder, load_run, row_nats,
score, summary), `exporting` (export), `gathering` (BUDGET, Gathered, gather, gathered),
`inspecting` (device_memory, inspect, matmul_rate, tokens_per_second), `naming` (first_run),
`piloting` (pilot), `plan_shown` (data_lines, ledger_table, rentals_table, rented, summary,
supervised_shown), `planning` (plan), `preparing` (Prepared, preparation_shown, prepare_all,
print_prepared), `reading` (recommend, results, study), `renting` (Rental, USUAL_UTILISATION,
fitting, rental), `reporting` (remember_session, report_on, workers_of), `running` (Clock,
about_sweep, default_workdir, plainly, prepared, run), `shipping` (ship).
"""
