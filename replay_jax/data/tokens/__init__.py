"""Tokenizers, and memory-mapped stores of tokens made from sources.

Other rooms read `bpe_training` (sample_texts, train_bpe), `config` (DataConfig, TokenizerConfig),
`copies` (Copies, Group, find_copies), `encode` (marked_tokens), `manifest` (MANIFEST_NAME,
SPLITS, read_manifest, stores_of), `prepare` (find_stores, find_tokenizer, prepare), `shards`
(FOLDER), `store` (TokenRows, TokenStore, check_store), `tokenizer` (KNOWN_ENDS, TOKENIZER_FILE,
Tokenizer, ids_fingerprint, load_tokenizer, special_texts, token_ids).
"""
