"""Worker processes of this machine.

Other rooms read `workers` (LocalWorkers, WorkerChoice, choose_workers, jax_settings,
local_platform, machine_memory, ray_choice, usable_cores).
"""
