"""What a train step needs and how fast it can be, on devices that need not be there.

Other rooms read `ahead` (CompileReport, gib), `bench` (bench, bench_population), `chips`
(chip_of), `fitting` (Beside), `peak` (process_peak), `search`.
"""
