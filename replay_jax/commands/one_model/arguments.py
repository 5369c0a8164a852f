"""What `evaluate` and `generate` can be given."""

import argparse
from collections.abc import Callable

Add = Callable[..., argparse.ArgumentParser]


def evaluate_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add
) -> None:
    """Of `replay-jax evaluate`."""
    evaluate = add(
        commands, "evaluate", "Score a model folder, or a run of a working directory.",
        "replay-jax evaluate models/quickstart --tasks=arc_easy,hellaswag --shots=5", json=True,
    )  # fmt: skip
    _model(evaluate)
    evaluate.add_argument("--tokens", metavar="FILE.npy",
                          help="integers, rows x length: the summed nats of every row")  # fmt: skip
    evaluate.add_argument(
        "--tasks", metavar="NAME=FILE|NAME,...", action="append", default=[],
        help="a task of docs/tasks.md and its file; or tasks of lm_eval, or YAML files of such "
        "(docs/evaluate.md); may be repeated",
    )  # fmt: skip
    evaluate.add_argument("--include", metavar="FOLDER", action="append", default=[],
                          help="with more tasks of lm_eval; may be repeated")  # fmt: skip
    evaluate.add_argument("--shots", type=int, metavar="N",
                          help="examples before each item (default: as the task says)")  # fmt: skip
    evaluate.add_argument("--limit", type=int, metavar="N", help="only the first items of a task")
    evaluate.add_argument("--chat", action="store_true",
                          help="prompts in the tokenizer's own chat template")  # fmt: skip
    evaluate.add_argument("--seed", type=int, default=1234,
                          help="of examples and sampled answers (default: 1234)")  # fmt: skip
    evaluate.add_argument("--items", metavar="FILE.jsonl",
                          help="write every item of lm_eval's tasks, with its scores")  # fmt: skip


def generate_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add
) -> None:
    """Of `replay-jax generate`."""
    generate = add(
        commands, "generate", "Write texts that a model generates itself, or its answers.",
        "replay-jax generate models/base --out=own.jsonl --count=1000 --seed=0", json=True,
    )  # fmt: skip
    _model(generate)
    generate.add_argument("--out", metavar="FILE.jsonl", required=True, help="must not exist yet")
    generate.add_argument("--count", type=int, metavar="N",
                          help="texts (default: one of each prompt)")  # fmt: skip
    generate.add_argument("--prompts", metavar="FILE.jsonl",
                          help="what texts begin with (default: nothing)")  # fmt: skip
    begins = generate.add_mutually_exclusive_group()
    begins.add_argument("--field", default="text", help="of the prompts (default: text)")
    begins.add_argument("--chat", action="store_true", help="prompts are conversations (docs/"
                        "data.md): write the assistant's next turn as prediction, beside their "
                        "own fields")  # fmt: skip
    generate.add_argument("--new_tokens", type=int, default=256, metavar="N",
                          help="at most, beyond the prompt (default: 256)")  # fmt: skip
    generate.add_argument("--greedy", action="store_true", help="the likeliest token, no draws")
    generate.add_argument("--temperature", type=float, default=1.0, help="of draws (default: 1)")
    generate.add_argument("--top_k", type=int, default=0, metavar="K",
                          help="draw from so many only (default: all)")  # fmt: skip
    generate.add_argument("--top_p", type=float, default=1.0, metavar="P",
                          help="draw from this share of probability only (default: 1)")  # fmt: skip
    generate.add_argument("--seed", type=int, default=0, help="of all draws, and on every line "
                          "(default: 0)")  # fmt: skip


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="FOLDER|WORKDIR", help="a model folder or hub id; or a "
                        "working directory, with RUN")  # fmt: skip
    parser.add_argument("run", metavar="RUN", nargs="?", help="an id, a name, or best")
    parser.add_argument("--batch", type=int, default=8, help="rows at a time (default: 8)")
    parser.add_argument("--mesh", default="1,1,1", metavar="R,F,T",
                        help="ways to split the model: mesh.replica, fsdp and tensor "
                        "(default: one device)")  # fmt: skip
    parser.add_argument("--target", help="of best, where there are several")
