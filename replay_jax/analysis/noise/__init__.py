"""What of a mean loss is luck: of seeds, of held-out text, of having been picked.

Other rooms read `components` (Component, Layout), `conditional` (conditional_interval),
`documents` (DocumentLuck, document_luck), `resampling` (Noise, constant_noise, estimate_noise,
resample_means), `shrinkage` (Family, shrink).
"""
