"""Worker processes of this machine.

Other rooms read `choice` (WorkerChoice, choose_workers, ray_choice, training_bytes), `machine`
(local_devices, machine_memory), `settings` (jax_settings), `workers` (LocalWorkers).
"""
