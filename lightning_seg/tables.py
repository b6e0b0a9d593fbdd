"""Tables of the commands: rows under named columns, numbers and intervals as texts."""

import csv
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

WIDTH = 120  # of a terminal whose width is not known
NONE = "-"  # for a number that is undefined or not known


@dataclass(frozen=True)
class Table:
    """A table. Its cells are texts, or what `str` makes one of.

    Attributes:
        left: the columns of words, which stand at the left; numbers stand at the right.
        note: a line above the title, in bold.
        frame: draw lines around the cells; a header without names is left out.
        colours: the looks of cells on a terminal, by their texts.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    caption: str = ""
    left: Collection[str] = ()
    note: str = ""
    frame: bool = True
    colours: Mapping[str, str] = field(default_factory=dict)

    def show(self, width: int | None = WIDTH) -> None:
        """Print the table to the terminal.

        Args:
            width: counts where the output is no terminal; with None no cell is broken there.
        """
        print_rich(self.drawn(), width=width or max(WIDTH, self._whole_width()))

    def drawn(self) -> Any:
        """The table as `rich` draws it."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        title = Text("\n".join(filter(None, (self.note, self.title))))
        title.stylize("bold", 0, len(self.note))
        shown = RichTable(
            title=title if title.plain else None,
            caption=Text(self.caption) if self.caption else None,
            caption_justify="left",
            title_justify="center" if self.frame else "left",
            box=box.HEAVY_HEAD if self.frame else None,
            padding=(0, 1) if self.frame else (0, 2, 0, 0),
            show_header=any(self.header),
        )
        for name in self.header:
            shown.add_column(name, justify="left" if name in self.left else "right")
        for row in self.rows:
            texts = [str(cell) for cell in row]
            shown.add_row(*(Text(text, self.colours.get(text, "")) for text in texts))
        return shown

    def _whole_width(self) -> int:
        """The width at which no cell is broken."""
        columns = zip(self.header, *self.rows, strict=True)
        longest = [max(len(str(cell)) for cell in column) for column in columns]
        return sum(longest) + 3 * len(longest) + 1

    def markdown(self) -> str:
        """The table as Markdown has it, without its title."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(map(_escaped_cell, line))} |" for line in lines)

    def csv(self) -> str:
        """The rows below the header, separated by commas."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()


def print_rich(*content: Any, width: int = WIDTH) -> None:
    """Print what rich can draw, as wide as the terminal."""
    from rich.console import Console

    console = Console(width=None if os.isatty(1) else width)
    for each in content:
        console.print(each, highlight=False)


def halves(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """The same rows in two columns, the first half beside the second."""
    kept = [list(row) for row in rows]
    middle = (len(kept) + 1) // 2
    rest = kept[middle:] + [[""] * len(kept[0])] * (len(kept) % 2)
    return [left + right for left, right in zip(kept[:middle], rest, strict=True)]


def _escaped_cell(cell: Any) -> str:
    return str(cell).replace("|", "\\|")


def count_text(number: int, thing: str, plural: str = "") -> str:
    """``1 image``, ``2 images``; ``1,000 colours``.

    Args:
        thing: the noun, with what stands before it: ``grey value``.
        plural: where it is not the noun with an s.
    """
    return f"{number:,} {thing if number == 1 else plural or f'{thing}s'}"


def number_text(value: float | None, digits: int = 4) -> str:
    """``0.8983``."""
    return f"{value:.{digits}f}" if value is not None and isfinite(value) else NONE


def interval_text(
    interval: tuple[float, float],
    digits: int = 3,
    word: str = "-",
) -> str:
    """``0.881 - 0.913``; of a single unit, which has no interval, ``-``."""
    low, high = interval
    known = isfinite(low) and isfinite(high)
    return f"{low:.{digits}f} {word} {high:.{digits}f}" if known else NONE
