"""Causal self-attention: one meaning, one reference, and the fastest form for each backend.

Every form has the signature of `Attend`: queries, keys, values and optional segment ids in,
values out. A position attends to itself and to earlier positions of the same segment; with a
window, to that many positions at most, its own included.

Shape letters: B batch, L length, Q query positions, S key positions, H query heads,
G key/value heads (H is a multiple of G), R = H / G, K head width.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from replay_jax.errors import UserError
from replay_jax.model.blockwise import ATTENTION_OUTPUT, MASKED, blockwise
from replay_jax.model.placement import Placement

if TYPE_CHECKING:
    from jax.experimental.pallas.ops.tpu.splash_attention import BlockSizes

Attend = Callable[[jax.Array, jax.Array, jax.Array, jax.Array | None], jax.Array]

SPLASH_LANES = 128
FORMS_BY_PLATFORM = {"cpu": "blockwise", "gpu": "cudnn", "cuda": "cudnn", "tpu": "splash"}


def resolve_attention(kind: str, platform: str) -> str:
    """Name the form that `kind` means on a platform ("cpu", "gpu", "cuda" or "tpu").

    Only "auto" depends on the platform; on a GPU it means cuDNN's kernel where that takes the
    arrays, and blockwise attention elsewhere (`cudnn_takes`). The platform is an argument because
    a step compiled ahead of time for a TPU is built on a host that has none. Raises UserError for
    an unknown platform.
    """
    if kind != "auto":
        return kind
    if platform not in FORMS_BY_PLATFORM:
        raise UserError(
            f"No attention is chosen for platform {platform!r}; set model.attention to "
            f"'reference', or use one of {', '.join(FORMS_BY_PLATFORM)}."
        )
    return FORMS_BY_PLATFORM[platform]


def make_attention(
    kind: str,
    *,
    platform: str,
    placement: Placement | None = None,
    window: int = 0,
    scale: float | None = None,
    interpret: bool = False,
) -> Attend:
    """Build the attention named by `kind` (`ModelConfig.attention`) for a platform.

    `window` limits what a position sees (0: nothing does); scores are multiplied by `scale`
    (None: 1 / sqrt(K)). `placement` is needed where a mesh has more than one device: every form
    but the reference is something that XLA cannot split by itself. `interpret` runs the TPU kernel
    on any platform, slowly, for tests.
    """
    form = resolve_attention(kind, platform)
    scores: dict[str, Any] = {"window": window, "scale": scale}
    if form == "reference":
        return functools.partial(reference_attention, **scores)
    if form == "blockwise":
        return _in_shard_map(functools.partial(blockwise_attention, **scores), placement)
    if form in ("cudnn", "cudnn_lanes"):
        attend = functools.partial(
            _cudnn_attention, lanes=form == "cudnn_lanes", must=kind == "cudnn", **scores
        )
        return _in_shard_map(attend, placement)
    attend = functools.partial(_splash_attention, interpret=interpret, **scores)
    return _in_shard_map(attend, placement)


def reference_attention(
    q_BLHK: jax.Array,
    k_BLGK: jax.Array,
    v_BLGK: jax.Array,
    segments_BL: jax.Array | None,
    *,
    window: int = 0,
    scale: float | None = None,
) -> jax.Array:
    """Attend with the full square of scores, softmax in float32: the definition."""
    length = q_BLHK.shape[1]
    allowed_1QS = jnp.tril(jnp.ones((1, length, length), bool))
    if window:
        allowed_1QS = jnp.triu(allowed_1QS, 1 - window)
    if segments_BL is not None:
        allowed_1QS = allowed_1QS & (segments_BL[:, :, None] == segments_BL[:, None, :])
    q_BQGRK = _grouped(q_BLHK, k_BLGK.shape[2])
    scores_BGRQS = jnp.einsum(
        "BQGRK,BSGK->BGRQS", q_BQGRK, k_BLGK, preferred_element_type=jnp.float32
    )
    scores_BGRQS = jnp.where(
        allowed_1QS[:, None, None], scores_BGRQS * _scale(q_BLHK, scale), MASKED
    )
    weights_BGRQS = jax.nn.softmax(scores_BGRQS, axis=-1).astype(v_BLGK.dtype)
    out_BQGRK = jnp.einsum("BGRQS,BSGK->BQGRK", weights_BGRQS, v_BLGK)
    return out_BQGRK.reshape(q_BLHK.shape)


def blockwise_attention(
    q_BLHK: jax.Array,
    k_BLGK: jax.Array,
    v_BLGK: jax.Array,
    segments_BL: jax.Array | None,
    *,
    window: int = 0,
    scale: float | None = None,
) -> jax.Array:
    """Attend without computing what lies above the diagonal (`blockwise.blockwise`)."""
    if window >= q_BLHK.shape[1]:
        window = 0
    q_BLGRK = _grouped(q_BLHK * _scale(q_BLHK, scale), k_BLGK.shape[2])
    k_BGLK, v_BGLK = k_BLGK.transpose(0, 2, 1, 3), v_BLGK.transpose(0, 2, 1, 3)
    out_BGRLK = blockwise(q_BLGRK.transpose(0, 2, 3, 1, 4), k_BGLK, v_BGLK, segments_BL, window)
    return out_BGRLK.transpose(0, 3, 1, 2, 4).reshape(q_BLHK.shape)


def _scale(q_BLHK: jax.Array, scale: float | None) -> float:
    return float(q_BLHK.shape[-1] ** -0.5) if scale is None else scale


def _grouped(q_BLHK: jax.Array, groups: int) -> jax.Array:
    batch, length, heads, width = q_BLHK.shape
    return q_BLHK.reshape(batch, length, groups, heads // groups, width)


def cudnn_takes(dtype: jnp.dtype, *, width: int, length: int, masked: bool) -> bool:
    """Whether cuDNN's kernel computes heads of a width (before Hopper) and its gradient.

    The conditions are those of JAX 0.10.2 (`check_is_flash_attention`, without a GPU to ask).
    """
    halves = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    return halves and width <= 128 and width % 8 == 0 and not (masked and length % 2)


def _cudnn_attention(
    q_BLHK: jax.Array,
    k_BLGK: jax.Array,
    v_BLGK: jax.Array,
    segments_BL: jax.Array | None,
    *,
    lanes: bool,
    must: bool,
    window: int,
    scale: float | None,
) -> jax.Array:
    """cuDNN's kernel where it takes the arrays, else blockwise attention unless it `must`.

    `lanes` says that it will be mapped over a population.
    """
    length, width = q_BLHK.shape[1], q_BLHK.shape[3]
    masked = segments_BL is not None
    if not cudnn_takes(q_BLHK.dtype, width=width, length=length, masked=masked):
        if must:
            raise UserError(
                f"cuDNN's attention takes no {q_BLHK.dtype} heads of {width} in sequences of "
                f"{length} {'with' if masked else 'without'} document masks; set model.attention "
                "to 'auto', which computes these itself, or model.compute_dtype to 'bfloat16'."
            )
        return blockwise_attention(q_BLHK, k_BLGK, v_BLGK, segments_BL, window=window, scale=scale)
    mask_BHLL = None
    if segments_BL is not None:
        mask_BHLL = (segments_BL[:, :, None] == segments_BL[:, None, :])[:, None]
        if lanes:
            # JAX's batching rule takes no mask that the heads share (jax 0.10.2).
            mask_BHLL = jnp.repeat(mask_BHLL, q_BLHK.shape[2], axis=1)
    try:
        return jax.nn.dot_product_attention(
            q_BLHK, k_BLGK, v_BLGK, mask=mask_BHLL, is_causal=True, implementation="cudnn",
            scale=scale, local_window_size=(window - 1, 0) if window else None,
        )  # fmt: skip
    except RuntimeError as missing:  # JAX looks for the library when it traces
        raise UserError(
            f"Attention on a GPU needs cuDNN, but JAX says: {str(missing).rstrip('.')}; pip "
            "install 'replay-jax[cuda]', or set model.attention to 'blockwise', which is slower."
        ) from missing


def _splash_attention(
    q_BLHK: jax.Array,
    k_BLGK: jax.Array,
    v_BLGK: jax.Array,
    segments_BL: jax.Array | None,
    *,
    interpret: bool,
    window: int,
    scale: float | None,
) -> jax.Array:
    """Flash attention in Pallas for TPU; the length is padded to whole lanes, which none sees."""
    length, heads = q_BLHK.shape[1:3]
    # Pallas takes .4 s to import, a sixth of a worker's start, and only a TPU's programs need it.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    padded = -(-length // SPLASH_LANES) * SPLASH_LANES
    grow = ((0, 0), (0, padded - length), (0, 0), (0, 0))
    q_BHLK, k_BGLK, v_BGLK = (
        jnp.pad(x, grow).transpose(0, 2, 1, 3)
        for x in (q_BLHK * _scale(q_BLHK, scale), k_BLGK, v_BLGK)
    )
    square = (padded, padded)
    mask = splash.LocalMask(square, (window - 1, 0), 0) if window else splash.CausalMask(square)
    kernel = splash.make_splash_mha_single_device(
        mask=splash.MultiHeadMask([mask for _ in range(heads)]),
        block_sizes=_splash_blocks(padded),
        residual_checkpoint_name=ATTENTION_OUTPUT,
        interpret=interpret,
    )
    ids = []
    if segments_BL is not None:
        segments_BL = jnp.pad(segments_BL, grow[:2], constant_values=-1)
        ids = [splash.SegmentIds(q=segments_BL, kv=segments_BL)]
    out_BHLK = jax.vmap(kernel)(q_BHLK, k_BGLK, v_BGLK, *ids)
    return out_BHLK.transpose(0, 2, 1, 3)[:, :length]


def _splash_blocks(length: int) -> "BlockSizes":
    """Largest power-of-two blocks up to 1024 that divide the length (v6e wanted large blocks)."""
    from jax.experimental.pallas.ops.tpu.splash_attention import BlockSizes

    block = next(b for b in (1024, 512, 256, SPLASH_LANES) if length % b == 0)
    return BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=min(block, 512),
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=min(block, 512),
        use_fused_bwd_kernel=True,
    )


def _in_shard_map(attend: Attend, placement: Placement | None) -> Attend:
    """Run a kernel on every device's own rows and heads; attention needs no communication."""
    if placement is None:
        return attend
    rows_and_heads = PartitionSpec(placement.batch_axes, None, placement.heads_axis, None)
    rows = PartitionSpec(placement.batch_axes, None)

    def attend_locally(
        q_BLHK: jax.Array, k_BLGK: jax.Array, v_BLGK: jax.Array, segments_BL: jax.Array | None
    ) -> jax.Array:
        operands = (q_BLHK, k_BLGK, v_BLGK)
        if segments_BL is None:
            return jax.shard_map(
                lambda q, k, v: attend(q, k, v, None),
                mesh=placement.mesh,
                in_specs=(rows_and_heads,) * 3,
                out_specs=rows_and_heads,
                check_vma=False,  # the kernels do not declare how their outputs vary
            )(*operands)
        return jax.shard_map(
            attend,
            mesh=placement.mesh,
            in_specs=(rows_and_heads,) * 3 + (rows,),
            out_specs=rows_and_heads,
            check_vma=False,
        )(*operands, segments_BL)

    return attend_locally


def is_cudnn_forward(primitive: Any, *_: Any, **__: Any) -> bool:
    """Whether an operation is cuDNN's forward pass: JAX gives its softmax statistics no name."""
    return primitive.name == "dot_product_attention_fwd_wrapper"
