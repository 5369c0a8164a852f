"""Compile every program of the paper's studies at full size for a slice that is not there.

    python tools/compile_paper.py --topology=v4:4x4x4 --out=compiled.jsonl

Most studies share the program of the 150M model, so each is compiled once, one process each, and
written to a line of the file when it is done; what stands there is not compiled again. Then the
table of docs/performance_tpu.md is printed. --only=STUDY leaves out the programs of the others, for
a slice of a size of its own; --list names the programs and compiles nothing; without --out nothing
is kept. A compile takes about one to four minutes of one core and some gigabytes.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe
from replay_jax.config.shipped import shipped_configs
from replay_jax.sweep.plan.programs import StepProgram, programs_of

HEADER = (
    "| program | studies | peak of one chip | step | MFU estimate (halved attention) |\n"
    "|---|---|---|---|---|"
)


def programs() -> dict[StepProgram, list[str]]:
    """Every program of all studies, with the names of those that need it.

    A study that compares no gradients shares the program of one that does.
    """
    found: dict[tuple[object, ...], tuple[StepProgram, list[str]]] = {}
    for name in shipped_configs():
        if not name.startswith("paper/"):
            continue
        for program in programs_of(configs_of(experiments_of(load_recipe(name)))):
            key = (program.shape, program.mesh, program.evaluation_batch, program.lanes)
            earlier, names = found[key] if key in found else (program, [])
            kept = program if program.cosine else earlier
            found[key] = (kept, [*names, name.removeprefix("paper/")])
    return dict(found.values())


def compiled(program: StepProgram, topology: str) -> dict[str, Any]:
    """The report of one program, compiled in this process."""
    from replay_jax.compile.ahead import compile_report, target_of
    from replay_jax.compile.fitting import Beside

    beside = Beside(
        program.evaluation_batch, program.lanes, cosine=program.cosine, average=program.average
    )
    report = compile_report(program.shape, program.mesh, target_of(topology), beside)
    return report.to_json()


def lines(done: dict[str, dict[str, Any]], topology: str) -> Iterator[str]:
    """The rows of the table, of what is compiled."""
    for program, names in programs().items():
        if program.words not in done:
            continue
        found = done[program.words]
        fits = "fits" if found["fits"] else "**does not fit**"
        peak, hbm = found["peak_bytes_per_device"] / 2**30, found["hbm_bytes_per_device"] / 2**30
        estimate = "| |"
        if found["roofline_seconds"] is not None:
            estimate = (
                f"{1e3 * found['roofline_seconds']:,.1f} ms, limited by {found['limit']} "
                f"| {found['mfu_estimate']:.1%} ({found['mfu_estimate_causal']:.1%}) |"
            ).replace("%", " %")
        yield (
            f"| {program.words}, {topology} | {', '.join(sorted(set(names)))} "
            f"| {peak:.2f} of {hbm:.2f} GiB: {fits} | {estimate}"
        )


def main() -> None:
    """Compile what the file does not have."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topology", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", help="the programs of one study")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--one", help="only the program of these words, its JSON line printed")
    arguments = parser.parse_args()
    of = {p: names for p, names in programs().items() if arguments.only in (None, *names)}
    found = {program.words: program for program in of}
    if arguments.list:
        print("\n".join(f"{p.words}: {', '.join(n)}" for p, n in of.items()))
        return
    if arguments.one:
        print(json.dumps({arguments.one: compiled(found[arguments.one], arguments.topology)}))
        return
    done: dict[str, dict[str, Any]] = {}
    if arguments.out and arguments.out.exists():
        for line in arguments.out.read_text(encoding="utf-8").splitlines():
            done |= json.loads(line)
    # The suite's flags of fake CPU devices are read by the TPU compiler as well.
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    for words in [each for each in found if each not in done]:
        command = [sys.executable, __file__, f"--topology={arguments.topology}", f"--one={words}"]
        line = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        done |= json.loads(line.stdout.splitlines()[-1])
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(line.stdout.splitlines()[-1] + "\n")
    print(HEADER, *lines(done, arguments.topology), sep="\n")


if __name__ == "__main__":
    main()
