"""What a user writes: config files, and the frozen configuration of one run.

Other rooms read `defaults` (sized_model), `execution` (ExecutionConfig), `experiment`
(ExperimentConfig, resolve), `experiments` (Experiments, configs_of, experiments_of), `identity`
(NEUTRAL, result_identity, without_neutral), `keys` (chosen, keys_of), `paper` (own_source),
`pilot` (Pilot, pilot_of), `recipe` (Recipe, command_line, load_recipe, parse_overrides),
`shipped` (shipped_configs, summary).
"""
