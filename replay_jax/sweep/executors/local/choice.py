"""How many worker processes train side by side, with how many threads or which GPUs each."""

import dataclasses

from replay_jax.config.execution import ExecutionConfig
from replay_jax.config.experiment import ExperimentConfig
from replay_jax.errors import UserError
from replay_jax.sweep.executors.local.machine import Devices

# Models up to this size are trained by one thread each, several at a time: see docs/sweeps.md for
# what was measured.
SMALL_MODEL_PARAMETERS = 30_000_000
# Memory of one worker beyond its states: the interpreter, XLA and compiled programs (measured).
_WORKER_BYTES = 1 << 30
# A worker needs its state several times over: gradients, activations, a state being saved.
_STATES_PER_WORKER = 6
# A GPU is a worker's own by itself where what training takes is at most this share of its memory.
_COMFORTABLE = 0.5
# Forward and backward pass without rematerialisation keep 34 values of 16 bits per token and
# feature, masks of dropout among them, and 5 per token, head and token attended to (Korthikanti et
# al. 2022, equation 2); what becomes of a logit was found by compiling for GPUs
# (docs/performance_gpu.md).
_BYTES_PER_FEATURE, _BYTES_PER_SCORE, _BYTES_PER_LOGIT = 34, 5, 18


@dataclasses.dataclass(frozen=True)
class WorkerChoice:
    """How edges are spread: processes, threads of each (0: not limited), and why.

    `devices` is what each process may see, as CUDA_VISIBLE_DEVICES names it; () is all for all.
    """

    workers: int
    threads: int
    reason: str
    devices: tuple[str, ...] = ()


def choose_workers(
    execution: ExecutionConfig,
    *,
    devices: Devices,
    parameters: int,
    needed: int | None,
    cores: int,
    memory_bytes: int,
) -> WorkerChoice:
    """Decide how many processes train side by side, and with how many threads each.

    The rule looks at the largest model and the machine only, never at how many edges happen to be
    ready or at what else is running, so that a sweep and its repetition agree to the last bit: the
    number of threads changes a CPU's float results, the number of processes does not. Of GPUs every
    process has as many, because their number changes results as well.

    Args:
        execution: what the user fixed; 0 leaves it to the rule.
        devices: of this machine.
        parameters: of the largest model.
        needed: the most that training takes on one device (`training_bytes`), None where a mesh
            splits a model.
        cores: that this process may use.
        memory_bytes: of this machine.

    Raises:
        UserError: `execution.workers` cannot share this machine's accelerators.
    """
    if devices.platform == "gpu":
        return _on_gpus(execution, devices, parameters, needed, memory_bytes)
    if devices.platform != "cpu":
        if execution.workers > 1:
            raise UserError(
                f"execution.workers is {execution.workers}, but one process takes all chips of a "
                f"{devices.platform}: make it 0, or see execution.population"
            )
        return WorkerChoice(
            1, 0, f"one process, because it uses all of the {devices.platform}'s devices"
        )
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


def _on_gpus(
    execution: ExecutionConfig,
    devices: Devices,
    parameters: int,
    needed: int | None,
    memory_bytes: int,
) -> WorkerChoice:
    """A GPU for each worker where models are small, else all GPUs for one; or as it is asked."""
    asked, names = execution.workers, devices.names
    if asked > 1:
        if not names or len(names) % asked:
            ways = ", ".join(str(n) for n in range(1, len(names) + 1) if len(names) % n == 0)
            raise UserError(
                f"execution.workers is {asked} and does not divide the {len(names)} GPUs here: "
                f"make it one of {ways or 1}, or 0 to leave it to the rule"
            )
        each = len(names) // asked
        shares = tuple(",".join(names[n : n + each]) for n in range(0, len(names), each))
        return WorkerChoice(asked, 0, "as the configuration says", shares)
    is_small = needed is not None and needed <= _COMFORTABLE * devices.memory_bytes
    if asked == 1 or len(names) < 2 or not is_small:
        return WorkerChoice(1, 0, "one process, because it uses all of the gpu's devices")
    each = _WORKER_BYTES + _STATES_PER_WORKER * 12 * parameters
    workers = max(1, min(len(names), memory_bytes // each))
    size = f"{parameters / 1e6:.3g}M parameters"
    return WorkerChoice(workers, 0, f"models of {size} have a GPU each", names[:workers])


def training_bytes(config: ExperimentConfig) -> int | None:
    """Bytes that training takes at most on one device that has all of it; None if a mesh splits it.

    State and gradients, and what a step keeps of one microbatch, or an evaluation of its batch,
    without rematerialisation. An estimate from above, never compared with a GPU.
    """
    if max(config.mesh.replica, config.mesh.fsdp, config.mesh.tensor) > 1:
        return None
    model, training = config.model, config.training
    width = 4 if model.compute_dtype == "float32" else 2
    features = _BYTES_PER_FEATURE * model.embed_dim
    scores = _BYTES_PER_SCORE * model.num_heads * training.seq_len
    layers = model.num_layers * (features + scores) * width // 2
    rows = max(training.batch_size // training.accumulation, config.evaluation.batch_size)
    tokens = rows * training.seq_len
    lanes = config.execution.population
    return lanes * (config.training_bytes + tokens * (layers + _BYTES_PER_LOGIT * model.vocab_size))


def ray_choice(execution: ExecutionConfig) -> WorkerChoice:
    """Threads of an edge on a Ray cluster: on CPU as many as it asks CPUs for, else one."""
    asked = dict(execution.ray_resources)
    if "GPU" in asked or "TPU" in asked or execution.ray_slice is not None:
        return WorkerChoice(0, 0, "as Ray places them")
    cpus = int(asked["CPU"]) if "CPU" in asked else 1
    return WorkerChoice(0, execution.threads or max(1, cpus), "as Ray places them")
