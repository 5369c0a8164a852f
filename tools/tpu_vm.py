"""Create, prepare, run, watch and delete a TPU VM (or queued resource) through gcloud.

    python tools/tpu_vm.py run study --zone=us-central2-b --accelerator_type=v4-128 --spot \
        -- configs/c4_150m.py --workdir=gs://my-bucket/study

`run` creates the machine if it is not there, prepares it, starts `replay-jax run --executor=hosts`
with these arguments on every worker and watches it: a preempted machine is deleted, created again
and started again, and the run goes on from its last checkpoint. At the end it gives back what it
has rented, also after an error (`--keep` leaves it); interrupted, it leaves the machine at work and
says so. `--dry_run` prints every command and calls nothing.
"""

import argparse
import dataclasses
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

FOLDER = "replay-jax"
# Software of the machine by its type (Google Cloud, "TPU software versions").
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
# The images have Python 3.10 and replay-jax needs 3.11: uv brings its own, in the user's folder.
INSTALL = (
    "python3 -m pip install --quiet --user uv && "
    "python3 -m uv venv --quiet --python 3.11 .venv && "
    "python3 -m uv pip install --quiet --python .venv/bin/python '.[tpu,gcs]'"
)
# What becomes of a machine, as the TPU API names it (TPU VMs; queued resources).
READY = ("READY", "ACTIVE")
GONE = ("PREEMPTED", "TERMINATED", "SUSPENDED", "SUSPENDING", "FAILED", "ABSENT")
LOG, EXIT_CODE = "run.log", "run.exit"


class GcloudError(RuntimeError):
    """A gcloud command failed; the message holds the command and the end of what it said."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """What to rent and where; `source` is the folder that is copied onto every worker."""

    name: str
    zone: str
    project: str | None
    accelerator_type: str
    runtime_version: str
    spot: bool
    queued: bool
    source: str


@dataclasses.dataclass(frozen=True)
class Gcloud:
    """Calls gcloud, or prints what it would call; `pause` waits between questions (seconds)."""

    executable: str
    dry_run: bool
    pause: float

    def call(self, arguments: Sequence[str], *, may_fail: bool = False) -> str | None:
        """Run one command and return what it printed; None in a dry run or if it may fail and did.

        Raises GcloudError if it failed and may not.
        """
        command = [self.executable, *arguments]
        print(f"$ {shlex.join(command)}", flush=True)
        if self.dry_run:
            return None
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
        if may_fail:
            return None
        said = " ".join((done.stderr or done.stdout).split())[-500:]
        raise GcloudError(f"{shlex.join(command)} ended with {done.returncode}: {said}")


def create(machine: Machine, gcloud: Gcloud) -> None:
    """Ask for the machine, if it is not ready already, and wait until it is."""
    if not gcloud.dry_run:
        now = state(machine, gcloud)
        if now in READY:
            print(f"{machine.name} is {now} already")
            return
        if now in GONE and now != "ABSENT":
            delete(machine, gcloud)
    kind = "queued-resources" if machine.queued else "tpu-vm"
    command = ["compute", "tpus", kind, "create", machine.name, *_place(machine)]
    command += [f"--accelerator-type={machine.accelerator_type}"]
    command += [f"--{'runtime-version' if machine.queued else 'version'}={machine.runtime_version}"]
    command += [f"--node-id={machine.name}"] if machine.queued else []
    command += ["--spot"] if machine.spot else []
    gcloud.call(command)
    _wait_until_ready(machine, gcloud)


def prepare(machine: Machine, gcloud: Gcloud) -> None:
    """Copy the source folder onto every worker and install it with its TPU dependencies."""
    place = [*_place(machine), "--worker=all"]
    on_all(machine, gcloud, f"rm -rf {FOLDER}.old; mv {FOLDER} {FOLDER}.old 2>/dev/null; true")
    gcloud.call(
        ["compute", "tpus", "tpu-vm", "scp", "--recurse", machine.source,
         f"{machine.name}:{FOLDER}", *place]
    )  # fmt: skip
    on_all(
        machine,
        gcloud,
        f"cd {FOLDER} && {INSTALL}",
    )


def start(machine: Machine, gcloud: Gcloud, arguments: Sequence[str]) -> None:
    """Start `replay-jax run` with the arguments on every worker; it goes on after the call ends.

    All workers train together and find each other by themselves, as JAX knows TPU VMs.
    """
    command = shlex.join([".venv/bin/replay-jax", "run", "--executor=hosts", *arguments])
    script = f"{command} > {LOG} 2>&1; echo $? > {EXIT_CODE}"
    on_all(
        machine,
        gcloud,
        f"cd {FOLDER} && rm -f {EXIT_CODE} && "
        f"(nohup setsid bash -c {shlex.quote(script)} > /dev/null 2>&1 < /dev/null &)",
    )


def watch(machine: Machine, gcloud: Gcloud) -> int | None:
    """Show the state and the last line of the log until the run ends or the machine is lost.

    Returns the exit code of the run on worker 0, or None if the machine is gone.
    """
    question = f"cd {FOLDER} && tail -n 1 {LOG}; cat {EXIT_CODE} 2>/dev/null || echo running"
    shown = ""
    while True:
        said = on_worker(machine, gcloud, 0, question)
        if gcloud.dry_run:
            return 0
        lines = said.splitlines() if said else []
        if lines and lines[-1].strip().lstrip("-").isdecimal():
            code = int(lines[-1])
            time.sleep(gcloud.pause if code else 0.0)  # a lost worker is known a little later
            if not code or state(machine, gcloud) not in GONE:
                print(f"{machine.name}: ended with code {code}")
                return code
        now = state(machine, gcloud)
        if now in GONE:
            print(f"{machine.name} is {now}")
            return None
        line = f"{now}: {lines[0] if len(lines) > 1 else 'no log yet'}"
        if line != shown:
            print(line, flush=True)
            shown = line
        time.sleep(gcloud.pause)


def run(
    machine: Machine, gcloud: Gcloud, arguments: Sequence[str], *, restarts: int, keep: bool
) -> int:
    """Create, prepare, start and watch; give the machine back unless it was there before.

    Returns what `run_to_the_end` does.
    """
    rented = not keep and (gcloud.dry_run or state(machine, gcloud) not in READY)
    try:
        code = run_to_the_end(machine, gcloud, arguments, restarts=restarts)
        if code and rented and not gcloud.dry_run:
            print(on_worker(machine, gcloud, 0, f"tail -n 100 {FOLDER}/{LOG}") or "")
    except KeyboardInterrupt:
        print(
            f"{machine.name} is still rented and at work: watch it, or delete it", file=sys.stderr
        )
        raise
    except BaseException:
        if rented:
            delete(machine, gcloud)
        raise
    if rented:
        delete(machine, gcloud)
    return code


def run_to_the_end(
    machine: Machine, gcloud: Gcloud, arguments: Sequence[str], *, restarts: int
) -> int:
    """Create, prepare, start and watch; after a preemption do it all again.

    Returns the exit code of the run; 75 if it was preempted more often than `restarts`.
    """
    for attempt in range(restarts + 1):
        try:
            create(machine, gcloud)
            prepare(machine, gcloud)
            start(machine, gcloud, arguments)
        except GcloudError:
            # Losing the machine half way through is a preemption like any other.
            if state(machine, gcloud) not in GONE:
                raise
            code = None
        else:
            code = watch(machine, gcloud)
        if code is not None:
            return code
        if attempt < restarts:
            print(f"restart {attempt + 1} of {restarts}")
    print(f"{machine.name} was lost {restarts + 1} times; giving up", file=sys.stderr)
    return 75


def delete(machine: Machine, gcloud: Gcloud) -> None:
    """Give the machine back; it is no mistake if it does not exist."""
    place = [*_place(machine), "--quiet"]
    if machine.queued:
        resource = ["compute", "tpus", "queued-resources", "delete", machine.name]
        gcloud.call([*resource, "--force", *place], may_fail=True)
    else:
        vm = ["compute", "tpus", "tpu-vm", "delete", machine.name]
        gcloud.call([*vm, *place], may_fail=True)


def state(machine: Machine, gcloud: Gcloud) -> str:
    """What the TPU API says of the machine; "ABSENT" if it does not exist."""
    kind, field = ("queued-resources", "state.state") if machine.queued else ("tpu-vm", "state")
    described = gcloud.call(
        ["compute", "tpus", kind, "describe", machine.name, *_place(machine),
         f"--format=value({field})"],
        may_fail=True,
    )  # fmt: skip
    return described or "ABSENT"


def on_all(machine: Machine, gcloud: Gcloud, command: str) -> None:
    """Run a shell command on every worker."""
    gcloud.call([*_ssh(machine), "--worker=all", f"--command={command}"])


def on_worker(machine: Machine, gcloud: Gcloud, worker: int, command: str) -> str | None:
    """Run a shell command on one worker; None if it cannot be reached."""
    return gcloud.call(
        [*_ssh(machine), f"--worker={worker}", f"--command={command}"], may_fail=True
    )


def _ssh(machine: Machine) -> list[str]:
    return ["compute", "tpus", "tpu-vm", "ssh", machine.name, *_place(machine)]


def _place(machine: Machine) -> list[str]:
    project = [f"--project={machine.project}"] if machine.project else []
    return [f"--zone={machine.zone}", *project]


def _wait_until_ready(machine: Machine, gcloud: Gcloud) -> None:
    while not gcloud.dry_run:
        now = state(machine, gcloud)
        if now in READY:
            return
        if now in GONE:
            raise GcloudError(f"{machine.name} is {now} instead of ready")
        print(f"{machine.name} is {now}", flush=True)
        time.sleep(gcloud.pause)


def parser() -> argparse.ArgumentParser:
    """The command line; every command takes the same description of the machine."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("name", help="name of the TPU VM")
    shared.add_argument("--zone", required=True)
    shared.add_argument("--project", help="Google Cloud project (default: gcloud's own)")
    shared.add_argument("--accelerator_type", default="v4-128", help="default: %(default)s")
    shared.add_argument("--runtime_version", help="default: by the accelerator type")
    shared.add_argument("--spot", action="store_true", help="cheaper, can be taken away")
    shared.add_argument("--queued", action="store_true", help="wait in line as a queued resource")
    shared.add_argument("--source", default=".", help="folder to copy (default: this one)")
    shared.add_argument("--dry_run", action="store_true", help="print commands, call nothing")
    shared.add_argument("--gcloud", default="gcloud", help="the gcloud executable")
    shared.add_argument("--pause", type=float, default=30.0, help="seconds between questions")
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    for name, summary in (
        ("create", "rent the machine and wait for it"),
        ("prepare", "copy and install the project on all workers"),
        ("run", "all of it: create, prepare, start, watch, restart"),
        ("watch", "follow a run that was started"),
        ("delete", "give the machine back"),
    ):
        command = commands.add_parser(name, help=summary, parents=[shared])
        if name == "run":
            command.add_argument("--restarts", type=int, default=100, help="default: %(default)s")
            command.add_argument("--keep", action="store_true", help="do not delete it at the end")
            command.add_argument("arguments", nargs="+", help="-- CONFIG --workdir=gs://…")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, the exit code of the run, or 1 after an error of gcloud."""
    given = parser().parse_args(arguments)
    if given.runtime_version is None:
        given.runtime_version = RUNTIMES.get(given.accelerator_type.rpartition("-")[0])
    if given.runtime_version is None:
        known = ", ".join(f"{kind}-N" for kind in RUNTIMES)
        print(
            f"tpu_vm: no runtime version is known for {given.accelerator_type} (only for {known}); "
            "name one with --runtime_version",
            file=sys.stderr,
        )
        return 2
    fields = {field.name: getattr(given, field.name) for field in dataclasses.fields(Machine)}
    machine = Machine(**fields)
    gcloud = Gcloud(given.gcloud, given.dry_run, given.pause)
    simple: dict[str, Callable[[Machine, Gcloud], int | None]] = {
        "create": create, "prepare": prepare, "watch": watch, "delete": delete,
    }  # fmt: skip
    try:
        if given.command == "run":
            how = {"restarts": given.restarts, "keep": given.keep}
            return run(machine, gcloud, given.arguments, **how)
        code = simple[given.command](machine, gcloud)
        return code if code is not None else (1 if given.command == "watch" else 0)
    except GcloudError as error:
        print(f"tpu_vm: {error}", file=sys.stderr)
        return 1
    except FileNotFoundError:
        print(f"tpu_vm: there is no {given.gcloud}; install the Google Cloud CLI", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
