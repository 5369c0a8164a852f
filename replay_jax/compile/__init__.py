"""What a train step needs and how fast it can be, on devices that need not be there.

Other rooms read `ahead`, `bench` (bench), `peak` (process_peak), `population_bench`
(bench_population), `search`.
"""
