"""FLOPs of matrix products, convolutions and attention kernels, from their HLO."""

import dataclasses
import math
import re

import numpy as np

from replay_jax.compile.hlo.text import Computation, Instruction
from replay_jax.model.blockwise import WINDOW_NAME


def matrix_flops(computation: Computation, instruction: Instruction) -> float:
    """FLOPs of a `dot` or `convolution`: two for each multiply-add that touches real data."""
    lhs, rhs = (computation.instructions[name].shapes[0].dims for name in instruction.operands[:2])
    out = instruction.shapes[0].dims
    if instruction.opcode == "dot":
        contracted = math.prod(lhs[d] for d in instruction.numbers("lhs_contracting_dims"))
        return 2.0 * math.prod(out) * contracted
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels, f"convolution {instruction.name} has no dim_labels"
    left, kernel, result = labels.groups()
    groups = re.search(r"batch_group_count=(\d+)", instruction.attributes)
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    batch = lhs[left.index("b")] // (int(groups[1]) if groups else 1)
    positions = 1
    spatial = [label for label in kernel if label.isdigit()]
    for label in spatial:
        positions *= _valid_positions(
            window[1] if window else "",
            int(label),
            base=lhs[left.index(label)],
            size=rhs[kernel.index(label)],
            out=out[result.index(label)],
        )
    return 2.0 * batch * rhs[kernel.index("i")] * out[result.index("f")] * positions


def matrix_passes(instruction: Instruction) -> int:
    """Passes of a bfloat16 matrix unit for the precision asked for: 1, 3 (high) or 6 (highest)."""
    if "operand_precision={highest" in instruction.attributes:
        return 6
    return 3 if "operand_precision={high" in instruction.attributes else 1


def _valid_positions(window: str, dim: int, *, base: int, size: int, out: int) -> int:
    """Pairs of output and kernel position that meet an element, not padding or a dilation hole."""

    def field(key: str, default: str) -> str:
        found = re.search(rf"\b{key}=([\d_x\-]+)", window)
        return found[1].split("x")[dim] if found else default

    stride, low = int(field("stride", "1")), int(field("pad", "0_0").split("_")[0])
    base_step, kernel_step = int(field("lhs_dilate", "1")), int(field("rhs_dilate", "1"))
    positions = np.arange(out)[:, None] * stride + np.arange(size)[None, :] * kernel_step - low
    inside = (positions >= 0) & (positions <= (base - 1) * base_step)
    return int(np.count_nonzero(inside & (positions % base_step == 0)))


@dataclasses.dataclass(frozen=True)
class KernelCost:
    """A kernel: matrix FLOPs, and HBM bytes read beyond one pass over its operands."""

    flops: float
    reread_bytes: float


def kernel_cost(computation: Computation, instruction: Instruction) -> KernelCost | None:
    """Cost of an attention kernel (splash on TPU, cuDNN's on GPU); None for other instructions."""
    if instruction.opcode != "custom-call":
        return None
    if 'custom_call_target="__cudnn$fmha' in instruction.attributes:
        return _cudnn_cost(computation, instruction)
    kernel = re.search(r"splash_m[hq]a_(fwd|dq|dkv)", instruction.name + instruction.op_name)
    return _splash_cost(computation, instruction, kernel.group(1)) if kernel else None


def _cudnn_cost(computation: Computation, instruction: Instruction) -> KernelCost:
    """cuDNN's flash attention on queries and keys [B, L, H, K], at least.

    2 products forward, 5 backward (scores again); of a causal square only the needed half, of that
    only the window, and every operand read once.
    """
    query, key = (computation.instructions[name].shapes[0] for name in instruction.operands[:2])
    batch, queries, heads, width = query.dims
    seen = (key.dims[1] + 1) / 2 if '"CAUSAL"' in instruction.attributes else key.dims[1]
    window = _number(r'"sliding_window_length": ?"?(\d+)', instruction.attributes)
    if window and window < queries:
        seen = window - window * (window - 1) / (2 * queries)
    products = 5 if "Backward" in instruction.attributes else 2
    return KernelCost(2.0 * products * batch * heads * queries * seen * width, 0.0)


def _splash_cost(computation: Computation, instruction: Instruction, phase: str) -> KernelCost:
    """A causal splash-attention kernel from its shapes and block sizes.

    Blocks above the diagonal and before the window are skipped, those on their edges are computed
    whole (`attention` writes the window into the operation's name). Per visited pair of
    query and key the forward kernel does 2 products, dq 3, dkv 4, and dkv with dq fused 5. The
    side that is walked inside (keys and values forward and in dq, queries in dkv) is read again
    for every block of the other.
    """
    operands = [computation.instructions[name].shapes[0] for name in instruction.operands]
    big = [shape for shape in operands if len(shape.dims) >= 3 and shape.dtype in ("bf16", "f32")]
    query, key, value = big[:3]
    q_len, k_len, width = query.dims[-2], key.dims[-2], query.dims[-1]
    suffix = "" if phase == "fwd" else f"_{phase}"
    block_q = _block(instruction, f"block_q{suffix}")
    block_k = _block(instruction, f"block_kv{suffix}")
    ends = np.minimum(np.arange(block_q, q_len + block_q, block_q), q_len)
    visited = np.minimum(-(-ends // block_k), -(-k_len // block_k))  # key blocks per query block
    window = _number(WINDOW_NAME.replace("{}", r"(\d+)"), instruction.op_name)
    if window:
        starts = np.arange(0, q_len, block_q)
        visited -= np.maximum(0, starts - window + 1) // block_k
    pairs = float(visited.sum()) * block_q * block_k
    # With dq fused, a result holds the gradient of the queries once per block of keys.
    fused = any(len(shape.dims) > len(query.dims) for shape in instruction.shapes)
    products = {"fwd": 2, "dq": 3, "dkv": 5 if fused else 4}[phase]
    flops = 2.0 * products * math.prod(query.dims[:-2]) * pairs * width
    if phase == "dkv":
        walked = query.hbm_bytes + sum(shape.hbm_bytes for shape in big[3:])
        again = pairs / (q_len * block_k) - 1
    else:
        walked = key.hbm_bytes + value.hbm_bytes
        # One pass of the keys per query head that shares them, not per key head.
        shared = math.prod(query.dims[:-2]) / math.prod(key.dims[:-2])
        again = shared * pairs / (k_len * block_q) - 1
    return KernelCost(flops, max(0.0, again) * walked)


def _number(pattern: str, text: str) -> int:
    """The number in a text that matches a pattern, 0 where nothing does."""
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _block(instruction: Instruction, name: str) -> int:
    found = re.search(rf'\\"{name}\\": (\d+)', instruction.attributes)
    if found is None:
        raise ValueError(f"{instruction.name} does not say its {name}")
    return int(found[1])
