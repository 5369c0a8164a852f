"""Write docs/reference.md: every key of a config, from the dataclasses.

python tools/reference.py
"""

from pathlib import Path

from replay_jax.config.keys import reference

if __name__ == "__main__":
    page = Path(__file__).parents[1] / "docs" / "reference.md"
    page.write_text(reference(), encoding="utf-8")
