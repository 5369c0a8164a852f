"""Devices and hosts: which mesh they form, how arrays are split over it, who talks to whom.

Other rooms read `choice` (MeshChoice, check_division, choose_mesh), `config` (GPU_MEMORY_SHARE,
MeshConfig, nearest_divisor), `devices` (ENVIRONMENT, attached_devices, check_gpu,
compiler_options, init_options, no_devices), `hosts` (Cluster, Roll, connect, initialize, join),
`link` (Link), `sharding` (BATCH_AXES, LOGICAL_AXIS_RULES, REPLICA_AXES, RULES_WITHIN_REPLICA,
batch_sharding, host_rows, make_mesh, mesh_host_rows, mesh_owners, placement, replicated,
shardings_of, tree_shardings).
"""
