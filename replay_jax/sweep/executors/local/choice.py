"""How many worker processes train side by side, and with how many threads each."""

import dataclasses

from replay_jax.config.execution import ExecutionConfig

# Models up to this size are trained by one thread each, several at a time: see docs/sweeps.md for
# what was measured.
SMALL_MODEL_PARAMETERS = 30_000_000
# Memory of one worker beyond its states: the interpreter, XLA and compiled programs (measured).
_WORKER_BYTES = 1 << 30
# A worker needs its state several times over: gradients, activations, a state being saved.
_STATES_PER_WORKER = 6


@dataclasses.dataclass(frozen=True)
class WorkerChoice:
    """How edges are spread: processes, threads of each (0: not limited), and why."""

    workers: int
    threads: int
    reason: str


def choose_workers(
    execution: ExecutionConfig,
    *,
    platform: str,
    parameters: int,
    cores: int,
    memory_bytes: int,
) -> WorkerChoice:
    """Decide how many processes train side by side, and with how many threads each.

    The rule looks at the largest model and the machine only, never at how many edges happen to be
    ready or at what else is running, so that a sweep and its repetition agree to the last bit: the
    number of threads changes a CPU's float results, the number of processes does not.

    Args:
        execution: what the user fixed; 0 leaves it to the rule.
        platform: "cpu", "gpu" or "tpu".
        parameters: of the largest model.
        cores: that this process may use.
        memory_bytes: of this machine.
    """
    if platform != "cpu":
        return WorkerChoice(1, 0, f"one process, because it uses all of the {platform}'s devices")
    small = parameters <= SMALL_MODEL_PARAMETERS
    threads = execution.threads or (1 if small else cores)
    each = _WORKER_BYTES + _STATES_PER_WORKER * 12 * parameters
    fitting = max(1, min(cores // threads, memory_bytes // each))
    workers = execution.workers or fitting
    size = f"{parameters / 1e6:.3g}M parameters"
    if execution.threads or execution.workers:
        reason = "as the configuration says"
    elif small:
        reason = f"models of {size} are too small for several threads"
    else:
        reason = f"a model of {size} keeps {cores} threads busy"
    return WorkerChoice(workers, threads, reason)


def ray_choice(execution: ExecutionConfig) -> WorkerChoice:
    """Threads of an edge on a Ray cluster: on CPU as many as it asks CPUs for, else one."""
    asked = dict(execution.ray_resources)
    if "GPU" in asked or "TPU" in asked or execution.ray_slice is not None:
        return WorkerChoice(0, 0, "as Ray places them")
    cpus = int(asked["CPU"]) if "CPU" in asked else 1
    return WorkerChoice(0, execution.threads or max(1, cpus), "as Ray places them")
