"""A model's texts by a cache of keys and values: what it says next, and how likely a text is.

Other rooms read `branches` (Request), `continuing` (LOOK, Prompt, Speaker, continuations),
`sampling` (Sampling), `scoring` (log_likelihoods).
"""
