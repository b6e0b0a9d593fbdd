"""The report as one page of HTML that needs no other file: findings, thumbnails of pairs and of odd
masks."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jinja2
import numpy as np

from lightning_seg.data.check import Pair, Report
from lightning_seg.data.check.summary import lines
from lightning_seg.data.show import outlined
from lightning_seg.data.sources.base import Sample, Source
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole

WIDTH = 280  # of a thumbnail, pixels
MOST_PAIRS, MOST_MASKS = 40, 12  # shown


class Tile(NamedTuple):
    """source: a data URI."""

    source: str
    caption: str


class PairRow(NamedTuple):
    """A pair with its two pictures."""

    title: str
    tiles: list[Tile]


def write_page(report: Report, source: Source, path: Path) -> None:
    """Write the page; InputError where ``path`` cannot be written."""
    write_whole(path, render_page(report, source).encode())


def render_page(report: Report, source: Source) -> str:
    """The page as text."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True).get_template(
        "page.html"
    )
    crossing = {pair for one in report.protocols for pair in one.pairs}
    ordered = sorted(report.pairs, key=lambda pair: (pair not in crossing, _grouped(report, pair)))
    return template.render(
        report=report,
        lines=lines(report),
        pairs=[_pair_row(report, source, pair) for pair in ordered[:MOST_PAIRS]],
        masks=[row for row in _odd_masks(report, source) if row.tiles],
        values=_bars(np.log1p(report.greys.counts)) if report.greys else [],
        shares=[(name, _bars(_histogram(report, k))) for k, name in enumerate(report.classes)]
        if report.facts
        else [],
    )


def _grouped(report: Report, pair: Pair) -> bool:
    return report.groups.get(pair.first) == report.groups.get(pair.second)


def _pair_row(report: Report, source: Source, pair: Pair) -> PairRow:
    places = {
        id: ", ".join(
            f"{one.protocol.name}: {one.home.get(id, 'unused')}" for one in report.protocols
        )
        for id in (pair.first, pair.second)
    }
    known = "one group" if _grouped(report, pair) else "no common group"
    title = f"{pair.kind}, likeness {pair.likeness:.2f}, {known}"
    return PairRow(
        title,
        [_tile(source, id, f"{id} ({place})" if place else id) for id, place in places.items()],
    )


def _odd_masks(report: Report, source: Source) -> list[PairRow]:
    shared = [id for pair in report.same_masks for id in pair]
    by_share = sorted(report.facts, key=lambda fact: max(fact.foreground))
    extremes = [fact.id for fact in (*by_share[:3], *by_share[-3:])] if len(by_share) > 6 else []
    kinds = {
        "empty": report.empty,
        "full": report.full,
        "over 90 %": report.nearly_full,
        "the same as another": shared,
        "smallest and largest": extremes,
    }
    return [
        PairRow(f"{title} ({len(ids)})", [_tile(source, id, id) for id in ids[:MOST_MASKS]])
        for title, ids in kinds.items()
    ]


def _tile(source: Source, id: str, caption: str) -> Tile:
    try:
        picture = thumbnail(source.read(id))
    except InputError as error:  # gone since it was checked
        return Tile("", f"{caption}: {error}")
    return Tile(f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}", caption)


def thumbnail(sample: Sample) -> bytes:
    """A JPEG, ``WIDTH`` wide, with the outlines of the masks."""
    height = max(1, round(sample.image.shape[0] * WIDTH / sample.image.shape[1]))
    return bytes(
        cv2.imencode(
            ".jpg", outlined(sample, (height, WIDTH))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80]
        )[1]
    )


def _histogram(report: Report, k: int) -> np.ndarray:
    return np.histogram([fact.foreground[k] for fact in report.facts], bins=50, range=(0, 1))[0]


def _bars(heights: Sequence[Any] | np.ndarray) -> list[float]:
    """Scaled to 100."""
    return (100 * np.asarray(heights, float) / max(float(np.max(heights)), 1e-9)).round(1).tolist()
