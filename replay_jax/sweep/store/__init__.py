"""What is known to be done: facts on disk, results, and their verification.

Other rooms read `environment` (Environment, compiler_flags, environment_digest, processor,
refusal, software), `facts` (fact_names, read_fact, write_text), `kinds` (DamagedState, Kind,
kind_of), `lock` (WorkdirLock, lock_holder), `orphans` (bytes_in_words, orphans, remove), `places`
(existing, place), `results` (LedgerMismatch, build_result, is_ready, write_results), `segment`
(Segment), `stored_run` (restore_run, run_fact), `verify` (mixed_environments, verify), `workdir`
(WorkStore).
"""
