"""Tokenizers, and memory-mapped stores of tokens made from sources.

Other rooms read `config` (DataConfig), `copies` (find_copies), `prepare` (find_stores,
find_tokenizer, prepare), `store` (TokenRows, TokenStore, check_store, stores_of), `tokenizer`
(Tokenizer, TokenizerConfig, ids_fingerprint, load_tokenizer, token_ids), `workers`
(PrepareProgress, ProgressCallback).
"""
