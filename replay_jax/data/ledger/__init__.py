"""How many sequences and tokens of each source: planned, counted, and compared.

Other rooms read `compared` (check_spans, compare, realised_ledger), `counted` (RealisedCounter,
Span, batch_checksum, supervised_labels), `planned` (Entry, Ledger, RowLabels, plan_ledger),
`tokens` (check_tokens).
"""
