"""A sweep before it is trained: runs, digests, the tree of what they share, what is left.

Other rooms read `chain` (Shared, run_chain, schedule_of), `digest` (DIGEST_BYTES,
canonical_digest), `found` (Found, Stores), `measured` (BOUNDARY_STEPS, CosinePair, HeldOutSet,
Measurement, TaskSet, boundary_step, evaluation_steps, measurements, run_cosine, run_sets,
run_tasks), `naming` (PRESET_NAMES, said_overrides, text), `objective` (held_sources,
held_updates, loss_weights, target_shares), `part` (part_of), `plan` (Plan, plan_sweep, refresh),
`programs` (programs_of, shape_of), `run` (Run), `scheduler` (Scheduler), `tree` (Edge, Node),
`work` (Done, Task).
"""
