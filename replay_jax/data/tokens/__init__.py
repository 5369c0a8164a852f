"""Tokenizers, and memory-mapped stores of tokens made from sources.

Other rooms read `config` (DataConfig), `copies` (find_copies), `manifest` (stores_of), `prepare`
(find_stores, find_tokenizer, prepare), `store` (TokenRows, TokenStore, check_store), `tokenizer`
(Tokenizer, token_ids), `workers` (PrepareProgress, ProgressCallback).
"""
