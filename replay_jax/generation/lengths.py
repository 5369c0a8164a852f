"""Lengths that programs are compiled for: a few, so that texts of any length share them."""


def compiled_length(length: int) -> int:
    """The least of 0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, ... that is not below `length`.

    From 16 on, a third of what is computed is padding at most.
    """
    if length <= 1:
        return length
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if power > 16 and length <= power * 3 // 4 else power
