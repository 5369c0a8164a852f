"""What the facts of a working directory must have, so that a damaged one is said and not met."""

from typing import Any

from replay_jax.shape import NUMBER, Each

_NODE = {"digest": str, "step": int}
_MAYBE = (*NUMBER, type(None))

WORKDIR = {"format": int, "common": Each(object)}
SWEEP = {"runs": [str]}
RUN: dict[str, Any] = {
    "id": str,
    "name": str,
    "overrides": Each(object),
    "steps": int,
    "path": [_NODE],
    "config": {"execution": {"keep_states": bool}},  # `stored_run` reads the rest
}
ENVIRONMENT = Each(Each(str))
SEGMENT: dict[str, Any] = {
    "start": _NODE,
    "stop": _NODE,
    "edge": str,
    "environment": str,
    "seconds": Each(NUMBER),
    "windows": [{"stop": int, "nats": Each(NUMBER), "weights": Each(NUMBER)}],
    "realised": [Each(object)],
}
EVALUATION = Each(object)
FAILURE = {"reason": str, "kind": str}
ABOUT = Each(object)
BUDGET: dict[str, Any] = {"compared": [str], "left_out": [str], "words": str}
PROGRESS: dict[str, Any] = {
    "time": NUMBER,
    "steps_done": int,
    "steps_total": int,
    "seconds_left": _MAYBE,
    "edges": [{"stop": str, "step": int, "loss": _MAYBE}],
}
RESULT: dict[str, Any] = {
    "id": str,
    "name": str,
    "overrides": Each(object),
    "config": Each(object),
    "losses": {"target": _MAYBE, "generic": _MAYBE},
    "environments": [str],
}
