"""Examples before the items of a task: others with their right choices, drawn by a seed."""

import random
from collections.abc import Sequence
from dataclasses import replace

from replay_jax.data.judging.tasks import Item
from replay_jax.errors import UserError

# Between examples, as the lm-evaluation-harness has it.
BETWEEN = "\n\n"


def few_shot(
    items: Sequence[Item],
    shots: int,
    *,
    seed: int,
    examples: Sequence[Item] | None = None,
    between: str = BETWEEN,
) -> list[Item]:
    """Items whose contexts begin with examples, each a context with its right choice.

    An item's draw depends on the seed and its number alone. An item is never an example of itself,
    and neither is another of the same context.

    Args:
        items: of the task.
        shots: examples before each; 0 changes nothing.
        seed: of the draws.
        examples: what is drawn from; None for the task's own other items.
        between: what stands between examples, and between the last and the item.

    Raises:
        UserError: a negative number, or too few to draw from.
    """
    if shots < 0:
        raise UserError(f"{shots} examples before each item: give 0 or more")
    if not shots:
        return list(items)
    return [
        replace(item, context=_prefix(item, number, shots, seed, examples or items, between))
        for number, item in enumerate(items)
    ]


def _prefix(
    item: Item, number: int, shots: int, seed: int, pool: Sequence[Item], between: str
) -> str:
    others = [other for other in pool if other.context != item.context]
    if len(others) < shots:
        raise UserError(
            f"item {number + 1} of the task has {len(others)} others of another context to draw "
            f"examples from, and {shots} are asked for: ask for fewer, or give a file of examples"
        )
    drawn = random.Random(f"{seed} {number}").sample(others, shots)
    shown = (other.context + other.choices[other.answer] for other in drawn)
    return "".join(f"{text}{between}" for text in shown) + item.context
