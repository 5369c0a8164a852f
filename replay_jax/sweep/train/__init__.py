"""In the process that has the devices: one edge from its start to its end.

Other rooms read `edge` (EdgeTrainer), `job` (EdgeJob, make_job), `messages` (Advanced, Ended,
Failed, Interrupted, Lost, Message, Started), `outcome` (failure, work), `population`
(PopulationTrainer), `programs` (ProgramCache).
"""
