"""What is known to be done: facts on disk, results, and their verification.

Other rooms read `environment` (Environment, compiler_flags, environment_digest, processor,
refusal, software), `facts` (fact_names, read_fact, read_facts, write_text), `kinds`
(DamagedState, Kind, kind_of), `known` (done, params_path, saved_states), `lease` (Fence), `lock`
(WorkdirLock, lock_holder), `orphans` (bytes_in_words, orphans, remove, unneeded), `places`
(existing, place), `results` (LedgerMismatch, build_result, final_keys, is_ready), `segment`
(Segment), `stored_run` (restore_run, run_fact, write_runs), `verify` (mixed_environments,
verify), `verify_data` (verify_data), `workdir` (WorkStore).
"""
