"""What reports are made of: blocks, numbers in words, the look, and what is known of the plan.

Other rooms read `blocks` (Answer, Block, Bullets, Code, Column, Figure, Line, Note, Page,
Section, Table, Tile, without_generic), `inputs` (PlanSummary, TimeRow), `lines` (CONSTANT,
against_baselines, axes_words, baselines_off_the_lines, compared_with_nothing, line_of,
protocol_words, replay_lines), `picks` (Pick, Picks, focus, picks), `theme` (DARK, HEATMAP_COLOURS,
LIGHT, REFERENCE_COLOUR, vega_config), `words` (EXTRAPOLATED, NONE, between, between_words,
bits_words, count, level_words, number, seconds, share, signed, times).
"""
