"""Which source every sequence of a run comes from, in exact integers: pure arithmetic.

Other rooms read `config` (ScheduleConfig), `generic` (Weights, check_weights), `mixture`
(StepDraws, draw_numbers, step_draws), `permutation` (ORDER, permuted), `protocols` (Schedule,
ScheduleConfig, build_schedule), `stages` (Realised, Requested, Schedule, realised_values),
`steps` (Steps).
"""
