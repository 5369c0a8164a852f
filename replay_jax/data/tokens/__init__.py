"""Tokenizers, and memory-mapped stores of tokens made from sources.

Other rooms read `config` (DataConfig), `copies` (Copies, Group, find_copies), `manifest`
(SPLITS), `prepare` (find_stores, find_tokenizer, prepare), `store` (TokenRows, TokenStore,
check_store, stores_of), `tokenizer` (Tokenizer, token_ids), `workers` (PrepareProgress,
ProgressCallback).
"""
