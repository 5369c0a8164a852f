"""What every command can be given, and what its --help says."""

import argparse

from replay_jax.commands.asked import SHELLS, PrintCompletion, ShowVersion
from replay_jax.commands.one_model.arguments import evaluate_command, generate_command
from replay_jax.commands.web.arguments import web_commands

_RECIPE_HELP = "a config file, or the name of a shipped one (see `replay-jax configs`)"
_OVERRIDES = (
    "Any value can be changed with --config.key=value, such as --config.model.num_layers=2."
)


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; every command with its help and an example."""
    root = argparse.ArgumentParser(
        prog="replay-jax",
        description="Schedule scarce target data with plentiful generic data, "
        "and say how sure the answer is.",
        allow_abbrev=False,
    )
    root.add_argument("--version", action=ShowVersion, nargs=0, help="print it and end")
    root.add_argument("--print-completion", action=PrintCompletion, choices=SHELLS,
                      help="print what this shell reads to complete commands, and end")  # fmt: skip
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _recipe_commands(commands)
    _planning_commands(commands)
    _workdir_commands(commands)
    _gc_command(commands)
    _overlap_command(commands)
    _export_command(commands)
    evaluate_command(commands, _add)
    generate_command(commands, _add)
    _ship_command(commands)
    _analyse_command(commands)
    web_commands(commands, _add)
    _other_commands(commands)
    return root


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    example: str,
    *,
    recipe: bool = False,
    workdir: bool = False,
    json: bool = False,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary + (f"\n{_OVERRIDES}" if recipe else ""),
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(takes_overrides=recipe)
    if recipe and name == "plan":
        parser.add_argument("recipes", metavar="CONFIG", nargs="+", help=_RECIPE_HELP)
    elif recipe:
        parser.add_argument("recipe", metavar="CONFIG", help=_RECIPE_HELP)
    if workdir:
        parser.add_argument("workdir", metavar="WORKDIR", help="the folder that `run` printed")
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _recipe_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = _add(
        commands, "run", "Train a sweep, fit its efficiency and write the report.",
        "replay-jax run configs/quickstart.py --workdir=runs/quickstart", recipe=True,
    )  # fmt: skip
    run.add_argument("--workdir", help="where results go (default: runs/<config name>)")
    run.add_argument(
        "--budget", metavar="AMOUNT",
        help="train only the runs that say most, for at most 2h, 90m, 3e15flops or 2000steps",
    )  # fmt: skip
    run.add_argument(
        "--until", metavar="GOAL",
        help="the same, until 'interval < 1.3x' or 'interval < 0.08 nat' (default: a verdict)",
    )  # fmt: skip
    run.add_argument(
        "--executor", choices=("local", "hosts", "ray"), help="where edges are trained"
    )
    run.add_argument("--ray_address", help="an existing Ray cluster (default: start a local one)")
    run.add_argument(
        "--coordinator", metavar="HOST:PORT",
        help="with --executor=hosts: where process 0 is (default: found on TPU VMs, GKE, Slurm)",
    )  # fmt: skip
    run.add_argument("--num_processes", type=int, metavar="N", help="how many hosts there are")
    run.add_argument("--process_id", type=int, metavar="I", help="which this is, 0 to N-1")
    run.add_argument(
        "--accept_environment", action="store_true",
        help="go on in a directory whose results come out of other code, versions or devices",
    )  # fmt: skip
    run.add_argument(
        "--retry_failed", action="store_true",
        help="train again what failed before and would fail again, such as a diverging loss",
    )  # fmt: skip
    run.add_argument("--profile_steps", metavar="A:B", help="write an xprof trace of these steps")
    prepare = _add(
        commands, "prepare", "Tokenize the sources of a config into memory-mapped stores.",
        "replay-jax prepare configs/quickstart.py", recipe=True,
    )  # fmt: skip
    prepare.add_argument(
        "--near_duplicates", action="store_true",
        help="also count documents that are nearly the same (see docs/data.md for what it takes)",
    )  # fmt: skip
    keys = _add(
        commands, "config", "Print every key of a config: type, value and what it means.",
        "replay-jax config quickstart schedule", json=True,
    )  # fmt: skip
    keys.add_argument("recipe", metavar="CONFIG", nargs="?", help=_RECIPE_HELP)
    keys.add_argument("key", metavar="KEY", nargs="?", help="one key, or all below it")
    keys.set_defaults(takes_overrides=True)
    _add(
        commands, "configs", "List the configs that come with the package, to be run by name.",
        "replay-jax configs",
    )  # fmt: skip
    compile_ = _add(
        commands, "compile", "Compile the train step for TPUs or GPUs that are not there.",
        "replay-jax compile paper/basque_8b --topology=v4:4x4x4", recipe=True, json=True,
    )  # fmt: skip
    compile_.add_argument(
        "--topology", help="such as v4:4x4x4 or h200:8 (default: this machine's devices)"
    )
    compile_.add_argument("--search", action="store_true", help="largest batch, cheapest remat")


def _planning_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    plan = _add(
        commands, "plan", "Show runs, shared prefixes, steps, tokens, FLOPs, cost and the ledger.",
        "replay-jax plan paper/headline paper/mid_training --topology=v5e:4x4 --price=1.2",
        recipe=True, json=True,
    )  # fmt: skip
    plan.add_argument("--workdir", help="count what is already done there")
    plan.add_argument("--topology", help="say what it takes there, such as v5e:4x4 or h100:8")
    plan.add_argument("--mfu", type=float, help="share of the chips' dense peak that is reached "
                      "(default: 0.4)")  # fmt: skip
    plan.add_argument("--price", type=float, help="of one chip for an hour")
    pilot = _add(
        commands, "pilot", "Train small pilots and say how to schedule the large run.",
        "replay-jax pilot paper/basque_8b --fraction=1/64 --plan", recipe=True,
    )  # fmt: skip
    pilot.add_argument("--fraction", default="1/16", help="share of the run's tokens that a pilot "
                       "has, and about of its parameters (default: 1/16)")  # fmt: skip
    pilot.add_argument("--seeds", type=int, default=3, help="of every pilot (default: 3)")
    pilot.add_argument("--workdir", help="where results go (default: runs/<config name>_pilot)")
    pilot.add_argument("--plan", action="store_true", help="show what would be trained, and end")
    init = _add(
        commands, "init", "Look at your own files and write a first config for them.",
        "replay-jax init my_study --generic='web/*.jsonl.gz' --target=manuals.jsonl --explain",
    )  # fmt: skip
    init.add_argument("name", metavar="NAME", help="of the file to write, NAME.py")
    init.add_argument("--generic", required=True, metavar="PATH", help="a file, folder or glob")
    init.add_argument("--target", required=True, metavar="PATH",
                      help="the scarce text, or conversations for --model")  # fmt: skip
    init.add_argument("--model", metavar="FOLDER",
                      help="fine-tune this Hugging Face folder or hub id on it")  # fmt: skip
    init.add_argument("--minutes", type=float, default=20.0,
                      help="what the study may take here (default: 20)")  # fmt: skip
    init.add_argument("--explain", action="store_true", help="say why each value is chosen")


def _workdir_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    _add(
        commands, "status", "Say of every run whether it is planned, running, done or failed.",
        "replay-jax status runs/quickstart", workdir=True, json=True,
    )  # fmt: skip
    report = _add(
        commands, "report", "Fit the finished runs and write report.html and the figures.",
        "replay-jax report runs/quickstart",
    )  # fmt: skip
    recommend = _add(
        commands, "recommend", "Say which replay fraction to use, how sure, and what to run next.",
        "replay-jax recommend runs/quickstart --json", json=True,
    )  # fmt: skip
    for parser in (report, recommend):
        parser.add_argument("workdirs", metavar="WORKDIR", nargs="+",
                            help="the folder that `run` printed; of several all runs")  # fmt: skip
        _second_opinion(parser)
        parser.add_argument("--early_stopping", action="store_true",
                            help="judge runs by their best state, not their last")  # fmt: skip
    verify = _add(
        commands, "verify", "Recompute every ledger and record from what is stored and compare.",
        "replay-jax verify runs/quickstart --data", workdir=True,
    )  # fmt: skip
    verify.add_argument("--data", action="store_true",
                        help="also compare every file of the stores with its checksum, and the "
                        "tokens of every batch with those that were trained on")  # fmt: skip


def _second_opinion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--second_opinion", action="store_true",
        help="beside it a Bayesian fit of the same runs (a minute; the extra `bayes`)",
    )  # fmt: skip


def _gc_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    collect = _add(
        commands, "gc", "Delete saved states that no run needs, or shards that no store needs.",
        "replay-jax gc runs/quickstart --dry_run",
    )  # fmt: skip
    collect.add_argument("workdir", metavar="WORKDIR",
                         help="the folder that `run` printed, or one of stores")  # fmt: skip
    collect.add_argument("--dry_run", action="store_true", help="list them with their sizes only")


def _overlap_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    overlap = _add(
        commands, "overlap", "Say how much of held-out rows and tasks stands in training text.",
        "replay-jax overlap configs/quickstart.py", recipe=True, json=True,
    )  # fmt: skip
    overlap.add_argument("--bytes", type=int, default=50, metavar="N",
                         help="of text that must agree to count (default: 50)")  # fmt: skip


def _export_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = _add(
        commands, "export", "Write a finished run as a Hugging Face model folder.",
        "replay-jax export runs/quickstart best models/quickstart", workdir=True,
    )  # fmt: skip
    export.add_argument("run", metavar="RUN", help="its id (or the beginning of it), name, or best")
    export.add_argument("folder", metavar="FOLDER", help="must not exist yet")
    export.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16",
                        help="of the tensors (default: bfloat16)")  # fmt: skip
    export.add_argument("--target", help="of best, where there are several")
    export.add_argument("--push", metavar="ORG/NAME",
                        help="also put it on the Hugging Face hub, private at first")  # fmt: skip
    export.add_argument("--adapter", action="store_true",
                        help="a LoRA run's adapter alone, as PEFT loads it")  # fmt: skip


def _ship_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    ship = _add(
        commands, "ship", "Is a run better than the best without replay? 0 yes, 2 no, 3 unknown.",
        "replay-jax ship runs/quickstart best --margin=0.01 --generic_margin=0.05",
        workdir=True, json=True,
    )  # fmt: skip
    ship.add_argument("run", metavar="RUN", help="its id (or the beginning of it), name, or best")
    ship.add_argument("--margin", type=float, default=0.0, metavar="NATS",
                      help="least gain in target loss (default: 0)")  # fmt: skip
    ship.add_argument("--generic_margin", type=float, metavar="NATS",
                      help="largest rise of generic loss (default: not judged)")  # fmt: skip
    ship.add_argument("--target", help="of best, where there are several")


def _analyse_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    analyse = _add(
        commands, "analyse", "Say what replay is worth in anybody's runs: a table, or a tracker's.",
        "replay-jax analyse runs.csv --tuned=learning_rate --json", json=True,
    )  # fmt: skip
    analyse.add_argument("runs", metavar="RUNS", nargs="?",
                         help="a .csv, .jsonl or .parquet file, a TensorBoard folder")  # fmt: skip
    analyse.add_argument("--wandb", metavar="ENTITY/PROJECT", help="a project of W&B in its place")
    analyse.add_argument("--reference", action="append", metavar="COLUMN=VALUE",
                         help="of the reference runs (default: replay_fraction=0)")  # fmt: skip
    analyse.add_argument("--column", action="append", metavar="COLUMN=NAME",
                         help="what the runs call a column of docs/analyse.md")  # fmt: skip
    for name, words in (
        ("tuned", "columns of settings of which the best is taken, joined by commas"),
        ("axes", "columns of settings that are never compared with each other"),
        ("ignore", "columns to leave out"),
    ):
        analyse.add_argument(f"--{name}", default="", metavar="COLUMNS", help=words)
    analyse.add_argument("--level", type=float, help="of intervals (default: 0.9)")
    _second_opinion(analyse)


def _other_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    _add(
        commands, "doctor", "Say what this machine and installation have, and what is missing.",
        "replay-jax doctor --json", json=True,
    )  # fmt: skip
    fit = _add(
        commands, "fit", "Fit loss against target tokens and give data-efficiency ratios.",
        "replay-jax fit experiments/published_points/flan.json --json", json=True,
    )  # fmt: skip
    fit.add_argument("points", metavar="POINTS.json", help="reference, candidates and ratios")
    bench = _add(
        commands, "bench", "Time the real train step and compare it with the matmul peak.",
        "replay-jax bench --shape=256,896,8,4,4,8192 --seq_len=512 --batch=8", json=True,
    )  # fmt: skip
    which = bench.add_mutually_exclusive_group()
    which.add_argument("--model", help="a preset such as 150m, or a shape")
    which.add_argument("--shape", metavar="D,F,L,H,KV,VOCAB", help="sizes in place of a preset")
    bench.add_argument("--seq_len", type=int, required=True, help="labels per sequence")
    bench.add_argument("--batch", type=int, required=True, help="sequences per step")
    bench.add_argument("--population", type=int, metavar="K",
                       help="K models as one program against K one after another")  # fmt: skip
