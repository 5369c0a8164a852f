"""Time one training step of some programs in turn, each in its own process, and print ratios.

    python tools/bench_peers.py [--shape=256,896,8,4,4,8192] [--seq_len=512] [--batch=8] [--json]

    replay_jax    the real step of this package (`training.bench.prepare_step`)
    huggingface   transformers' LlamaForCausalLM with PyTorch's fused AdamW and flash attention
    huggingface_allocator   the same with the allocator settings that this package gives its workers
    huggingface_compiled    the same with those settings, the model through torch.compile
    plain_flax    a Flax decoder as one would first write it: the full square of attention, all
                  logits, automatic differentiation, Optax

All train the same architecture in float32 on random tokens, with clipping by global norm. Each
round times every program once, in rotating order, and a ratio is the median over rounds of that
round's ratio, because other work on the machine comes and goes. CPU seconds are of all threads;
OpenMP's include its waiting, which is short only on a quiet machine. Peak memory is the resident
set of the whole process, libraries and compilation included. Needs `pip install -e '.[bench]'`.
"""

import argparse
import dataclasses
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PEERS = (
    "replay_jax",
    "huggingface",
    "huggingface_allocator",
    "huggingface_compiled",
    "plain_flax",
)


@dataclasses.dataclass(frozen=True)
class Work:
    """What every program trains: D,F,L,H,KV,VOCAB, and sequences x tokens per step."""

    shape: tuple[int, ...]
    batch: int
    seq_len: int


@dataclasses.dataclass
class Peer:
    """A running program and what it has reported, one entry per round."""

    name: str
    process: subprocess.Popen[str]
    seconds: list[float]
    cpu_seconds: list[float]
    peak_bytes: int = 0

    def measure(self, steps: int) -> None:
        """Have it run `steps` steps and note what one took."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        answer = self._read()
        self.seconds.append(answer["seconds"])
        self.cpu_seconds.append(answer["cpu_seconds"])
        self.peak_bytes = answer["peak_bytes"]

    def wait_until_ready(self) -> None:
        """Wait for compilation and a first step."""
        self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early with code {self.process.wait()}.")
        return json.loads(line)


def main() -> None:
    """Run the comparison, or one program of it (--peer, used by the comparison itself)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--shape", default="256,896,8,4,4,8192", help="D,F,L,H,KV,VOCAB, or a preset such as 150m"
    )
    parser.add_argument("--seq_len", type=int, default=512, help="labels per sequence")
    parser.add_argument("--batch", type=int, default=8, help="sequences per step")
    parser.add_argument("--rounds", type=int, default=7, help="times that each program is timed")
    parser.add_argument("--steps", type=int, default=1, help="steps per timing")
    parser.add_argument("--peers", default=",".join(PEERS), help="which programs, ours first")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = Work(parse_shape(arguments.shape), arguments.batch, arguments.seq_len)
    if arguments.peer:
        serve(arguments.peer, work)
        return
    report = compare(work, arguments.peers.split(","), arguments.rounds, arguments.steps)
    if arguments.json:
        print(json.dumps(report))
    else:
        print_report(report)


def parse_shape(text: str) -> tuple[int, ...]:
    """Six numbers, or those of a preset, which is timed in float32 like all others."""
    from replay_jax.model.presets import PRESETS

    if text not in PRESETS:
        return tuple(int(size) for size in text.split(","))
    model = PRESETS[text]
    heads = (model.num_heads, model.num_kv_heads)
    return (model.embed_dim, model.mlp_dim, model.num_layers, *heads, model.vocab_size)


def compare(work: Work, names: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Time the named programs in turn; the first is the one the others are compared with."""
    peers = []
    for name in names:
        peer = start(name, work)
        peer.wait_until_ready()
        peers.append(peer)
    for turn in range(rounds):
        for place in range(len(peers)):
            peers[(turn + place) % len(peers)].measure(steps)
    for peer in peers:
        peer.process.communicate()
    first, tokens = peers[0], work.batch * work.seq_len
    return {
        "shape": work.shape,
        "batch": work.batch,
        "seq_len": work.seq_len,
        "rounds": rounds,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": os.getloadavg()[0],
        "peers": {
            peer.name: {
                "seconds_per_step": statistics.median(peer.seconds),
                "tokens_per_second": tokens / statistics.median(peer.seconds),
                "cpu_seconds_per_step": statistics.median(peer.cpu_seconds),
                "peak_bytes": peer.peak_bytes,
                f"{first.name}_is_faster_by": _median_ratio(peer.seconds, first.seconds),
                f"{first.name}_uses_less_cpu_by": _median_ratio(
                    peer.cpu_seconds, first.cpu_seconds
                ),
                f"{first.name}_memory_share": first.peak_bytes / peer.peak_bytes,
            }
            for peer in peers
        },
    }


def start(name: str, work: Work) -> Peer:
    """Start one program; it reports when it is ready."""
    command = [sys.executable, __file__, f"--peer={name}"]
    command += [f"--shape={','.join(map(str, work.shape))}"]
    command += [f"--batch={work.batch}", f"--seq_len={work.seq_len}"]
    environment = _environment(name)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    return Peer(name, process, [], [])


def serve(name: str, work: Work) -> None:
    """Be one program: prepare, then run as many steps as each line of standard input says."""
    prepare = {
        "replay_jax": prepare_replay_jax,
        "huggingface": prepare_huggingface,
        "huggingface_allocator": prepare_huggingface,
        "huggingface_compiled": functools.partial(prepare_huggingface, compiled=True),
        "plain_flax": prepare_plain_flax,
    }[name]
    step = prepare(work)
    step()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        steps = int(line)
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        answer = {
            "seconds": (time.perf_counter() - start) / steps,
            "cpu_seconds": (time.process_time() - cpu_start) / steps,
            "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        print(json.dumps(answer), flush=True)


def prepare_replay_jax(work: Work) -> Callable[[], object]:
    """The step that training runs, on one device."""
    from replay_jax.compile.bench import prepare_step
    from replay_jax.model.presets import shape_model
    from replay_jax.training.config import StepShape

    model = shape_model(",".join(map(str, work.shape)))
    step = prepare_step(StepShape(model, work.batch, work.seq_len, sources=2))
    return lambda: step.seconds(1)


def prepare_huggingface(work: Work, *, compiled: bool = False) -> Callable[[], object]:
    """LlamaForCausalLM in float32 with fused AdamW, eager or through torch.compile."""
    import torch
    import transformers

    embed, mlp, layers, heads, kv_heads, vocabulary = work.shape
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=embed,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            max_position_embeddings=max(8192, work.seq_len),
            tie_word_embeddings=False,
            attn_implementation="sdpa",
            use_cache=False,
        )
    ).float()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    tokens = torch.randint(0, vocabulary, (work.batch, work.seq_len))
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def prepare_plain_flax(work: Work) -> Callable[[], object]:
    """A decoder and a step written for reading, without a thought for speed."""
    import plain_flax

    return plain_flax.prepare(work.shape, batch=work.batch, seq_len=work.seq_len)


def print_report(report: dict[str, Any]) -> None:
    """Print one line per program and one per comparison."""
    print(
        f"shape {report['shape']}, batch {report['batch']} x {report['seq_len']}, "
        f"{report['rounds']} rounds, {report['machine']}, load {report['load']:.1f}"
    )
    first = next(iter(report["peers"]))
    for name, values in report["peers"].items():
        print(
            f"{name:22s} {values['tokens_per_second']:8.0f} tokens/s  "
            f"{values['seconds_per_step']:7.3f} s/step  "
            f"{values['cpu_seconds_per_step']:7.3f} CPU s  "
            f"{values['peak_bytes'] / 2**20:7.0f} MiB peak"
        )
        if name != first:
            print(
                f"  {first} / {name}: speed {values[f'{first}_is_faster_by']:.2f} x, "
                f"CPU {1 / values[f'{first}_uses_less_cpu_by']:.2f} x, "
                f"memory {values[f'{first}_memory_share']:.2f} x"
            )


def _median_ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def _environment(name: str) -> dict[str, str]:
    """The programs run on the CPU, with as many threads as there are cores.

    All but "huggingface" and "plain_flax" have the allocator settings of our workers.
    """
    from replay_jax.sweep.executors.local.settings import CPU_ALLOCATOR

    own = {} if name in ("huggingface", "plain_flax") else CPU_ALLOCATOR
    cores = str(os.cpu_count())
    return {**os.environ, **own, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": cores}


if __name__ == "__main__":
    main()
