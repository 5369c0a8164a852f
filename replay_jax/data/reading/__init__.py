"""From stores to batches: which rows a run may draw, in which order.

Other rooms read `batch_rows` (ALL_ROWS, BatchRows, row_blocks, row_numbers), `held_out_documents`
(HeldOutDocuments, held_out_documents), `pipeline` (Batch, evaluation_rows, held_out_dataset,
read_ahead, run_dataset), `views` (SourceView, counted_labels, view_places, view_rows).
"""
