"""Documents: where they come from, which are held out, and what an input is by content.

Other rooms read `documents` (Document, document_hash, held_out_below, part_documents), `durable`
(claimed, disk_errors, file_sha256, read_only_allowed, release, remove_abandoned, sync,
write_durably), `embedded` (EMBEDDED_KINDS), `files` (open_binary), `fingerprints` (KnownPart,
file_inputs, known_part, known_source, part_key, recalled_part, remember_source, stamps), `parts`
(PART_BYTES, Part, Read, SPLIT, TRAIN, VALIDATION, source_parts), `source` (ADDED, SourceConfig).
"""
