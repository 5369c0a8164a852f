"""Tokenizers, and memory-mapped stores of tokens made from sources.

Other rooms read `bpe_training` (sample_texts, train_bpe), `config` (DataConfig), `copies`
(Copies, Group, find_copies), `manifest` (MANIFEST_NAME, SPLITS, read_manifest), `prepare`
(find_stores, find_tokenizer, prepare), `shards` (FOLDER), `store` (TokenRows, TokenStore,
check_store, stores_of), `tokenizer` (Tokenizer, TokenizerConfig, ids_fingerprint, load_tokenizer,
token_ids), `workers` (PrepareProgress, ProgressCallback).
"""
