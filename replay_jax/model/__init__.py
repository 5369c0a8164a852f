"""The decoder, its attention and its loss, as pure functions of parameters.

Other rooms read `architecture` (ModelConfig, REMAT_POLICIES, RopeConfig, Variant,
parameter_counts), `attention` (resolve_attention), `blockwise` (WINDOW_NAME), `decoder`
(Transformer, build_transformer, head_kernel), `flops` (flops_per_token), `lora` (DOWN, MATRICES,
UP, is_adapter), `loss` (chunk_positions, token_losses, weighted_loss), `placement` (Placement),
`presets` (PRESETS, preset, scanned, shape_model), `trained` (FLOAT32_BYTES, head_is_trained,
is_trained, parameter_bytes, saved_bytes, stored_dtype, trained_counts).
"""
