"""Tokenizers, and memory-mapped stores of tokens made from sources.

Other rooms read `bpe_training` (sample_texts, train_bpe), `config` (DataConfig), `copies`
(Copies, Group, find_copies), `manifest` (MANIFEST_NAME, SPLITS, read_manifest, stores_of),
`prepare` (find_stores, find_tokenizer, prepare), `shards` (FOLDER), `store` (TokenRows,
TokenStore, check_store), `tokenizer` (Tokenizer, token_ids), `workers` (PrepareProgress,
ProgressCallback).
"""
