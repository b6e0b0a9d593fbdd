"""The report as one page of HTML that needs no other file: findings, thumbnails of pairs and of odd
masks."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.check import Pair, Report
from lightning_seg.data.check.summary import lines
from lightning_seg.data.show import outlined
from lightning_seg.data.sources.base import Sample, Source
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole
from lightning_seg.plots import Axis, Plot, draw_svg, page_environment

WIDTH = 280  # of a thumbnail, pixels
_BINS = 50  # of a histogram
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
    template = page_environment(Path(__file__).parent).get_template("page.html")
    crossing = {pair for one in report.protocols for pair in one.pairs}
    ordered = sorted(report.pairs, key=lambda pair: (pair not in crossing, _grouped(report, pair)))
    return template.render(
        report=report,
        lines=lines(report),
        pairs=[_pair_row(report, source, pair) for pair in ordered[:MOST_PAIRS]],
        masks=[row for row in _odd_masks(report, source) if row.tiles],
        plots=[(plot.alt, draw_svg(plot)) for plot in _plots(report)],
    )


def _plots(report: Report) -> Iterator[Plot]:
    """The grey values of the masks, and how much of an image each class takes."""
    if report.greys:
        counts = np.asarray(report.greys.counts)
        pixels = Axis("pixels", 0.7, max(float(counts.max()), 1.0) * 1.5, log=True)
        plot = Plot(Axis("grey value", -3, 258), pixels, "Grey values of the mask files")
        for value in np.flatnonzero(counts).tolist():
            plot.segment((value, 0.7), (value, float(counts[value])), "s1 thin-bar")
        yield plot
    for k, name in enumerate(report.classes if report.facts else ()):
        shares = [100 * fact.foreground[k] for fact in report.facts]
        images, edges = np.histogram(shares, _BINS, (0, 100))
        most = max(1.0, 1.05 * float(images.max()))
        across = Axis("% of the image", 0, 100)
        plot = Plot(
            across, Axis("images", 0, most, whole=True), f"Share of an image that is {name}"
        )
        middles = (edges[:-1] + edges[1:]) / 2
        for middle, number in zip(middles.tolist(), images.tolist(), strict=True):
            if number:
                plot.segment((middle, 0), (middle, number), "s1 wide-bar")
        yield plot


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
