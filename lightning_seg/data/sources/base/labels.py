"""What the values of a label picture mean: numbers and colours, and the classes they stand for."""

import re
from collections.abc import Sequence
from typing import Any

from lightning_seg.data.reading.masks import COLOUR
from lightning_seg.errors import InputError
from lightning_seg.tables import count_text

Label = int | str  # a number in a label picture, or a colour #rrggbb


def label_values(
    classes: Sequence[str],
    labels: Sequence[Label | Sequence[Label]] | str | None,
) -> list[list[int]] | None:
    """The values of each class, or None for one class that the files themselves tell."""
    names = list(classes)
    if not names or len(set(names)) < len(names):
        raise InputError(f"classes is {names}; give at least one name, each once.")
    if labels is None:
        return None if len(names) == 1 else [[value] for value in range(1, len(names) + 1)]
    if isinstance(labels, str):
        raise InputError(f"labels is {labels!r}; give a list of values, or 'nonzero'.")
    if len(labels) != len(names):
        raise InputError(
            f"labels has {count_text(len(labels), 'entry', 'entries')} for "
            f"{count_text(len(names), 'class', 'classes')} ({', '.join(names)}); "
            "give one for each."
        )
    values = [
        [label_value(label) for label in (each if isinstance(each, list | tuple) else (each,))]
        for each in labels
    ]
    kinds = {value >> 24 for group in values for value in group}
    if len(kinds) != 1 or not all(values):
        raise InputError(
            f"labels is {list(labels)}; give for each class numbers, or for each colours #rrggbb."
        )
    return values


def label_value(label: Any) -> int:
    """A label as one number; a colour is packed, so that black is not the label 0."""
    if isinstance(label, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", label):
        return packed_colour(int(label[1:], 16))
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 1 << 16:
        return label
    raise InputError(
        f"the label {label!r} is neither a number from 0 to 65535 nor a colour '#rrggbb'; "
        "correct it."
    )


def packed_colour(rgb: int) -> int:
    """``0xrrggbb`` as the value that ``reading.masks.read_colours`` gives it."""
    return COLOUR | rgb


def named_value(value: int) -> str:
    """The label as a person writes it: ``7`` or ``#ff0000``."""
    return f"#{value & 0xFFFFFF:06x}" if value & COLOUR else str(value)
