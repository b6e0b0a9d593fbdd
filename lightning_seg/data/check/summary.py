"""The report in a dozen lines, for the terminal and the head of the page."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lightning_seg.data.check import Crossings, Report
from lightning_seg.data.check.annotations import Annotations
from lightning_seg.data.check.duplicates import KINDS, Pair
from lightning_seg.data.check.foreground import is_uneven
from lightning_seg.data.mask_shares import INVERTED
from lightning_seg.data.splits import SPLITS
from lightning_seg.tables import WIDTH, Table, count_text

SHOWN = 5  # examples of each finding


class Line(NamedTuple):
    """level: ok, note, amber (likely wrong), fault (damaged or missing) or leak."""

    level: str
    title: str
    text: str


def lines(report: Report) -> list[Line]:
    """All findings, in the order of the checks."""
    found = [_count_line(report), _files_line(report), *_left_aside(report)]
    found += [
        Line("amber", "headers" if report.scans else "table", sentence)
        for sentence in report.doubts
    ]
    if report.facts:
        found += [
            _sizes_line(report),
            *_greys(report),
            *_foreground(report),
            *_odd(report),
            _duplicates(report),
            *_annotations(report.annotations, "annotated twice"),
        ]
    return found + [line for crossings in report.protocols for line in _protocol(crossings, report)]


_COLOURS = {
    "ok": "green",
    "note": "cyan",
    "amber": "yellow",
    "fault": "yellow",
    "leak": "bold red",
}


def print_lines(report: Report) -> None:
    """Print the findings as a table."""
    rows = lines(report)
    header = ("", "", "")
    title = f"data check: {report.dataset}"
    table = Table(header, rows, title, left=header, frame=False, colours=_COLOURS)
    # where there is no terminal, no path is broken in two
    longest = max(len(word) for line in rows for word in line.text.split())
    table.show(width=max(WIDTH, longest + 30))


def _count_line(report: Report) -> Line:
    what = count_text(report.count, "scan" if report.scans else "image")
    if report.official is None:
        return Line("ok", "count", f"{what}; the owners state no number")
    if report.official == report.count:
        return Line("ok", "count", f"{what}, as many as the owners state")
    return Line("fault", "count", f"{what}; the owners state {report.official}")


def _files_line(report: Report) -> Line:
    read = (
        f"read were {count_text(len(report.facts), 'slice')} of the scans"
        if report.scans
        else "all files can be read"
    )
    if not report.damages:
        return Line("ok", "files", read)
    return Line(
        "fault",
        "files",
        f"{len(report.damages)} cannot be read: {_few_texts([d.sentence for d in report.damages])}",
    )


def _of_those_read(report: Report) -> str:
    """The masks behind a figure, where some could not be read; else empty."""
    read = len(report.facts)
    whole = read + len(report.damages)
    return f"; over the {read} of {whole} masks that can be read" if report.damages else ""


def _left_aside(report: Report) -> list[Line]:
    return [Line("note", "left aside", sentence) for sentence in report.left_aside]


def _sizes_line(report: Report) -> Line:
    shapes = Counter(fact.shape for fact in report.facts)
    smallest, largest = (
        f"{shape[1]}x{shape[0]}" for shape in (min(shapes, key=_area), max(shapes, key=_area))
    )
    size = (
        smallest
        if len(shapes) == 1
        else f"{smallest} to {largest} pixels (width x height), {len(shapes)} sizes"
    )
    return Line(
        "ok",
        "sizes",
        f"{size}; channels: {' and '.join(sorted({str(shape[2]) for shape in shapes}))}",
    )


def _area(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1]


_DIFFERENT = (
    "masks hold 0 and one other value, but not all the same: if these are classes, name them in "
    "dataset_options.classes and labels;"
)
_TWO_VALUES = "two values in each mask, 0 and one other"


def _greys(report: Report) -> list[Line]:
    greys = report.greys
    if greys is None:
        return []
    if len(greys.others) > 1:
        values = ", ".join(
            f"{value} in {count}" for value, count in greys.others.most_common(SHOWN)
        )
        return [Line("amber", "mask values", f"{_DIFFERENT} {values}")]
    if not greys.lossy:
        return [Line("ok", "mask values", f"{_TWO_VALUES}{_of_those_read(report)}")]
    text = (
        f"{len(greys.lossy)} of {len(report.facts)} masks hold greys (lossy or soft outlines): {greys.values} values; "
        f"any threshold from {greys.lowest} to {greys.highest} is safe"
    )
    if greys.dice_at_zero < 0.999:
        text += f"; '> 0' would change them to a Dice of {greys.dice_at_zero:.3f}"
    fits = greys.lowest + 10 <= greys.threshold <= greys.highest - 10
    return [Line("ok" if fits else "note", "mask values", text)]


def _foreground(report: Report) -> list[Line]:
    shares = np.array([fact.foreground for fact in report.facts])
    found = []
    for name, share in zip(report.classes, shares.T, strict=True):
        low, middle, high = np.quantile(share, [0, 0.5, 1])
        share_text = f"{low:.2%} to {high:.2%} of an image's pixels, median {middle:.2%}"
        found.append(Line("ok", name, share_text + _of_those_read(report)))
    return found


_INVERTED = (
    f"in most masks {INVERTED}; invert the masks, or set dataset_options.labels to ['#000000'] and "
    "background to ['#ffffff']"
)


def _odd(report: Report) -> list[Line]:
    found = []
    if report.inverted:
        found.append(Line("fault", "inverted masks", _INVERTED))
    expected = report.scans or report.synthetic
    kinds = (
        ("empty masks", report.empty, "note" if expected else "amber"),
        ("full masks", report.full, "amber"),
        ("over 90 % masks", report.nearly_full, "amber"),
    )
    for title, ids, level in kinds:
        if ids:
            found.append(
                Line(level, title, f"{len(ids)} of {len(report.facts)}: {_few_texts(ids)}")
            )
    if report.same_masks:
        pairs = _few_texts([f"{first} = {second}" for first, second in report.same_masks])
        found.append(
            Line(
                "note",
                "same masks",
                f"{count_text(len(report.same_masks), 'pair')} of different images with one mask: {pairs}",
            )
        )
    return found


def _duplicates(report: Report) -> Line:
    if not report.pairs:
        none = "no two samples show the same"
        return Line(
            "ok",
            "duplicates",
            none if report.near else "no two images are identical; look-alikes were not sought",
        )
    counts = Counter(pair.kind for pair in report.pairs)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    unknown = sum(
        report.groups.get(pair.first) != report.groups.get(pair.second) for pair in report.pairs
    )
    return Line(
        "note" if unknown else "ok",
        "duplicates",
        f"{count_text(len(report.pairs), 'pair')} ({kinds}); {unknown} of them in no common group",
    )


def _protocol(crossings: Crossings, report: Report) -> list[Line]:
    protocol = crossings.protocol
    sizes = "/".join(str(len(protocol.ids[split])) for split in SPLITS)
    title, found = f"protocol {protocol.name}", []
    if crossings.missing:
        found.append(
            Line(
                "fault",
                title,
                f"missing of its ids: {len(crossings.missing)}: {_few_texts(crossings.missing)}",
            )
        )
    if crossings.groups:
        groups = _few_texts(
            [f"{group} ({', '.join(splits)})" for group, splits in crossings.groups]
        )
        found.append(
            Line(
                "leak",
                title,
                f"LEAK: its splits divide {count_text(len(crossings.groups), 'group')}: {groups}",
            )
        )
    if crossings.pairs:
        pairs = _few_texts([_pair(pair, crossings) for pair in crossings.pairs])
        found.append(
            Line(
                "leak",
                title,
                f"LEAK: its splits divide {count_text(len(crossings.pairs), 'pair')} that show the same: {pairs}",
            )
        )
    found += _annotations(crossings.annotations, title)
    if crossings.likely:
        placed = [_placed(pair, crossings) for pair in crossings.likely.items()]
        found.append(Line("amber", title, f"{_LIKELY} {_few_texts(placed)}"))
    found += _one_sided(crossings, report)
    if found:
        return found
    known = "nothing crosses its splits"
    if not report.grouped:
        known += "; no patients or sequences are known"
    return [Line("ok", title, f"{sizes} ids, digest {protocol.digest}: {known}")]


def _one_sided(crossings: Crossings, report: Report) -> list[Line]:
    """Splits that lack a class, or have many more empty masks than another."""
    title = f"protocol {crossings.protocol.name}"
    found = [
        Line(
            "fault",
            title,
            f"none of the {one.samples} {one.split} masks shows {' or '.join(one.absent)}",
        )
        for one in report.absent_in(crossings)
    ]
    splits = report.foreground_of(crossings)
    if is_uneven(splits) and not report.scans:
        shares = ", ".join(f"{one.split} {one.empty} of {one.samples}" for one in splits)
        found.append(Line("amber", title, f"empty masks are divided unevenly: {shares}"))
    return found


_LIKELY = (
    "no patients or sequences are known, and names look like several images of one in different "
    "splits; name the groups (dataset_options.group_pattern, or the column group of a table):"
)


def _annotations(found: Sequence[Annotations], title: str) -> list[Line]:
    """Tell how far the masks of pictures that stand twice agree."""
    if not found:
        return []
    dice = np.array([np.mean(each.dice) for each in found])
    lowest = found[int(dice.argmin())]
    text = (
        f"two annotations of {count_text(len(found), 'picture')} agree at a Dice of {dice.mean():.3f} "
        f"(median {np.median(dice):.3f}, minimum {dice.min():.3f}: {lowest.first}, {lowest.second})"
    )
    return [Line("note", title, text)]


def _placed(ids: Sequence[str], crossings: Crossings) -> str:
    return " and ".join(f"{id} ({crossings.home[id]})" for id in ids)


def _pair(pair: Pair, crossings: Crossings) -> str:
    return f"{_placed(pair[:2], crossings)}, {pair.kind}"


def _few_texts(texts: Sequence[str]) -> str:
    return "; ".join(texts[:SHOWN]) + (
        f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    )
