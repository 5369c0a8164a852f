"""Documents: where they come from, which are held out, and what an input is by content.

Other rooms read `buckets` (bring_answers, bring_folder, send_answers, send_folder, send_missing),
`documents` (Document, document_hash, held_out_below, part_documents, split_documents), `durable`
(HashingFile, claimed, disk_errors, file_sha256, in_use, json_sha256, read_only_allowed, release,
remove_abandoned, sync, write_durably), `embedded` (EMBEDDED_KINDS), `files` (expand_paths,
open_binary, read_objects), `fingerprints` (KnownPart, file_inputs, known_part, known_source,
part_key, recalled_part, remember_source, stamps), `in_place` (IN_PLACE_NAME, InPlace, in_place,
is_elsewhere, point_at), `parts` (PART_BYTES, Part, Read, SPLIT, TRAIN, VALIDATION, source_parts),
`source` (ADDED, DATASET_KINDS, SourceConfig, TOKEN_KINDS), `token_documents` (Marks,
TokenDocument, token_documents), `token_files` (TokenFile, open_token_file), `workers`
(PrepareProgress, Progress, ProgressCallback, available_cores, processes_for, run_jobs).
"""
