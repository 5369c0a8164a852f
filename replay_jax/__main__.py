"""`python -m replay_jax` is `replay-jax`."""

import sys

from replay_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
