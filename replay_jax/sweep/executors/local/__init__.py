"""Worker processes of this machine.

Other rooms read `choice` (WorkerChoice, choose_workers, ray_choice), `machine` (local_platform,
machine_memory, usable_cores), `settings` (jax_settings), `workers` (LocalWorkers).
"""
