"""In the process that has the devices: one edge from its start to its end.

Other rooms read `edge` (EdgeTrainer), `events_file` (EventsFile, folder_name), `job` (EdgeJob,
make_job), `messages` (Advanced, Ended, Failed, Interrupted, Lost, Message, Started), `outcome`
(failure, work), `population` (PopulationTrainer), `programs` (ProgramCache).
"""
