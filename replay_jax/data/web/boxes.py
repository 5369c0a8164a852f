"""Bounding boxes of elements: what two have in common, and which element lies at a point."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from replay_jax.errors import UserError

_NUMBER = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_SPELT = re.compile(rf"x={_NUMBER} y={_NUMBER} width={_NUMBER} height={_NUMBER}")


class Box(NamedTuple):
    """Edges in pixels, the top above the bottom."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """In square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


def spelt_box(text: str) -> Box | None:
    """The box of "x=1 y=2 width=3 height=4"; None where it is not spelt so."""
    found = _SPELT.search(text)
    if found is None:
        return None
    x, y, width, height = map(float, found.groups())
    if not all(map(_is_pixels, (x, y, width, height))):
        return None
    return Box(x, y, x + width, y + height)


def box_of(value: Any, uid: str) -> Box:
    """The box of an object as pages have it: x, y, width, height, or the four edges.

    Raises UserError for anything else.
    """
    if isinstance(value, Mapping):
        for names in (("left", "top", "right", "bottom"), ("x", "y", "width", "height")):
            found = [value[name] for name in names if name in value]
            if len(found) == 4 and all(map(_is_pixels, found)):
                a, b, c, d = map(float, found)
                return Box(a, b, c, d) if names[0] == "left" else Box(a, b, a + c, b + d)
    raise UserError(f"the box of {uid!r} has neither left, top, right, bottom nor x, y, width, "
                    f"height: {str(value)[:80]}")  # fmt: skip


def _is_pixels(value: Any) -> bool:
    """Whether a value is a finite number of a size that a page may have."""
    return type(value) in (int, float) and abs(value) < 1e12


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes; of two without area 1 if they are the same, else 0."""
    wide = min(one.right, other.right) - max(one.left, other.left)
    high = min(one.bottom, other.bottom) - max(one.top, other.top)
    common = max(0.0, wide) * max(0.0, high)
    union = one.area + other.area - common
    if union == 0:
        return float(one == other)
    return common / union


def element_at(x: float, y: float, boxes: Mapping[str, Box]) -> str | None:
    """The smallest element with an area that holds a point, its edges rounded outwards."""
    found, least = None, math.inf
    for uid, box in boxes.items():
        inside = math.floor(box.left) <= x <= math.ceil(box.right)
        if inside and math.floor(box.top) <= y <= math.ceil(box.bottom) and 0 != box.area < least:
            found, least = uid, box.area
    return found
