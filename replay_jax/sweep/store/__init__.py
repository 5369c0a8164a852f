"""What is known to be done: facts on disk, results, and their verification.

Other rooms read `aside` (set_aside), `environment` (Environment, Facts, PACKAGES, anywhere,
compiler_flags, differences, environment_digest, processor, refusal, software), `facts`
(changed_facts, damaged, fact_names, read_fact, read_object, write_fact, write_text), `kinds`
(DamagedState, Kind, kind_of), `known` (done, params_path, saved_states), `lease` (Fence), `lock`
(WorkdirLock, lock_holder), `orphans` (Orphan, bytes_in_words, orphans, remove, unneeded),
`places` (existing, place), `sealing` (checksum), `segment` (Segment), `shapes`, `stored_run`
(identity, restore_run, run_fact, with_added, write_runs), `workdir` (WorkStore).
"""
