"""The decoder, its attention and its loss, as pure functions of parameters.

Other rooms read `architecture` (LayerKind, ModelConfig, REMAT_POLICIES, RopeConfig, Variant,
parameter_counts), `attention` (make_attention, resolve_attention), `blockwise` (MASKED),
`decoder` (Layer, Params, RMSNorm, Transformer, build_transformer, head_kernel), `flops`
(flops_per_token, forward_flops_per_token), `kl` (Base, held_loss), `layers` (Rope, look_up,
rope_tables, rotate, stacked_tables), `lora` (DOWN, MATRICES, UP, is_adapter), `loss`
(chunk_positions, token_losses, weighted_loss), `ordering` (after), `placement` (Placement),
`presets` (PRESETS, preset, scanned, shape_model), `trained` (FLOAT32_BYTES, base_bytes,
base_dtype, head_is_trained, is_trained, parameter_bytes, saved_bytes, stored_dtype, trained_bytes,
trained_counts).
"""
