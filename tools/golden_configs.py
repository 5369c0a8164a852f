"""Write what the paper's configs resolve to, so that a changed default shows in a diff.

    python tools/golden_configs.py        # writes tests/config/golden/NAME.json

Each file has the resolved configuration of the first run at full size and the overrides of every
run. tests/config/test_golden.py compares.
"""

import json
from pathlib import Path

from replay_jax.config.experiments import experiments_of
from replay_jax.config.recipe import load_recipe
from replay_jax.config.shipped import shipped_configs
from replay_jax.strict import to_plain

GOLDEN = Path(__file__).parents[1] / "tests" / "config" / "golden"


def golden_text(name: str) -> str:
    """The file of one config, by the name that it is shipped under."""
    experiments = experiments_of(load_recipe(name))
    first, _ = experiments[0]
    runs = [json.dumps(item, sort_keys=True) for _, item in experiments]
    config = json.dumps(to_plain(first), indent=1, sort_keys=True)
    return f'{{"config": {config},\n"runs": [\n' + ",\n".join(runs) + "\n]}\n"


def main() -> None:
    """Write all of them."""
    GOLDEN.mkdir(exist_ok=True)
    for name in shipped_configs():
        if name.startswith("paper/"):
            (GOLDEN / f"{Path(name).name}.json").write_text(golden_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
