"""Times in words; apart, as `status` needs no plan."""


def duration(seconds: float) -> str:
    """A time in words for people: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
