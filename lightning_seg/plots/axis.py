"""Axes: where a value lies, and at which values there are ticks."""

import math
from dataclasses import dataclass

MOST_TICKS = 10  # of a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """An axis, linear unless ``log``.

    Attributes:
        whole: ticks stand at whole numbers only.
        names: the texts of the ticks 0, 1, 2, ... of categories.
        bare: there are no ticks.
        turned: the texts of the ticks run upwards.
    """

    label: str
    low: float
    high: float
    whole: bool = False
    names: tuple[str, ...] = ()
    log: bool = False
    bare: bool = False
    turned: bool = False

    def at(self, value: float) -> float:
        """The place of a value between 0 and 1."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(value) - low) / ((high - low) or 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """The values with ticks, each with its text."""
        if self.bare:
            return []
        if self.names:
            return [(place, name) for place, name in enumerate(self.names) if name]
        places = self._log_places() if self.log else self._linear_places()
        return [(place, f"{place:.6g}") for place in places]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def _linear_places(self) -> list[float]:
        raw = (self.high - self.low) / 5 or 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        steps = [factor * power for factor in (1, 2, 5, 10)]
        step = next(each for each in steps if each >= raw * 0.95)
        step = max(1.0, round(step)) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _log_places(self) -> list[float]:
        """Round numbers, as many as there is room for."""
        first, last = math.floor(self._scaled(self.low)), math.ceil(self._scaled(self.high))
        powers = [10.0**power for power in range(first, last + 1)]
        for factors in ((1, 1.5, 2, 3, 4, 6, 8), (1, 2, 5), (1,)):
            places = [factor * power for power in powers for factor in factors]
            inside = [place for place in places if self.low <= place <= self.high]
            if len(inside) <= MOST_TICKS:
                break
        return inside if len(inside) > 1 else self._linear_places()
