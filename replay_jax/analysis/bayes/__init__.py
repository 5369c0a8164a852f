"""A second opinion on a study: a Bayesian hierarchical fit of its runs, with the extra `bayes`.

Other rooms read `second` (with_opinions).
"""
