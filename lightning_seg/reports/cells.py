"""Numbers and intervals as texts; one that is undefined is ``-``."""

from math import isfinite

NONE = "-"


def number_text(value: float | None, digits: int = 4) -> str:
    """``0.8983``."""
    return f"{value:.{digits}f}" if value is not None and isfinite(value) else NONE


def interval_text(interval: tuple[float, float], digits: int = 3, word: str = "-") -> str:
    """``0.881 - 0.913``; of a single unit, which has no interval, ``-``."""
    low, high = interval
    known = isfinite(low) and isfinite(high)
    return f"{low:.{digits}f} {word} {high:.{digits}f}" if known else NONE
