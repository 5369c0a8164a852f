"""A study as one self-contained page, pictures, and tables for a terminal.

Other rooms read `advice` (Advice, advise, beside_loss, by_target), `drawing` (draw_figures),
`foreign` (foreign_advice, foreign_page, has_generic), `html` (render_page, write_pictures,
write_whole), `naming` (Names, named, unnamed), `terminal` (terminal_table), `write` (write_report).
"""
