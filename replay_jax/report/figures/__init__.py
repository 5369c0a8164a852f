"""Charts of a study and of its runs.

Other rooms read `along_figures` (along_figures), `encodings` (Chart, Row, colours_of, data, tip),
`loss_figures` (loss_figures), `replay_figures` (replay_figures), `run_figures` (boundary_figures,
pareto_figures, training_figures), `study_figures` (heatmap_figures,
quadratic_figure), `worth_figure` (efficiency_figure).
"""
