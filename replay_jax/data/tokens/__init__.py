"""Tokenizers, and memory-mapped stores of tokens made from sources.

Other rooms read `bpe_training` (sample_texts, train_bpe), `config` (DataConfig), `copies`
(find_copies), `prepare` (find_stores, find_tokenizer, prepare), `store` (TokenRows, TokenStore,
check_store, stores_of), `tokenizer` (Tokenizer, token_ids), `workers` (PrepareProgress,
ProgressCallback).
"""
