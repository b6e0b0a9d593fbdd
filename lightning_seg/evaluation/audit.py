"""``lightning-seg audit``: under which conventions published figures are possible.

It also tells the interval that they would have had.

With ``g(D) = D / (2 - D)``, the IoU of one set of counts whose Dice is D (convex: a mean of IoUs
is at least g of the mean Dice):

* pooled: ``IoU = g(D)`` and ``D = 2 P R / (P + R)``, exactly.
* a mean over images or batches: ``g(D) <= IoU <= D`` (Jensen), and the excess over g tells how much
  the Dice of images or batches varies: ``SD^2 = excess (2 - D)^3 / 2``. Dice of images has an SD of
  about .15; that of batches is several times smaller.
* two classes, pooled: g holds for foreground and background each. The two Dice that solve both
  means imply the share of the frame that is foreground, ``(1 - D_b) / (2 - D_f - D_b)``, exactly
  (mean of truth and prediction).

Figures are taken as rounded or cut off after their last digit.
"""

import argparse
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.errors import InputError
from lightning_seg.evaluation.claims import Claim, claim_lines
from lightning_seg.options import OptionParser
from lightning_seg.tables import Table

IMAGE_SD = 0.15  # of Dice over images where nothing better is known: simulated on real masks
# what a spread over images or batches may plausibly be
IMAGE_SDS = (0.05, 0.4)
BATCH_SDS = (0.005, 0.1)
# largest plausible share of the frame for `two_class`; polyps and tumours fill far less
FOREGROUND = 0.4
FIGURES = ("dice", "iou", "precision", "recall")


class PrintedFigure(NamedTuple):
    """The range in which a printed figure lies, and the figure itself."""

    low: float
    high: float
    value: float

    @classmethod
    def parse(cls, name: str, text: str) -> "PrintedFigure":
        """Read ``.9411`` or, in percent, ``94.11``; InputError unless it is a score."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 100:
            raise InputError(
                f"{name} is {text!r}; give a score such as .9411, or 94.11 in percent."
            )
        scale = 100 if value > 1 else 1
        _, _, digits = text.strip().partition(".")
        unit = 10.0 ** -len(digits) / scale
        share = value / scale
        return cls(max(0.0, share - unit / 2), min(1.0, share + unit), share)

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    def meets(self, low: float, high: float) -> bool:
        return self.low <= high and low <= self.high


class Verdict(NamedTuple):
    """Tell whether figures can be scores of a convention, and why."""

    convention: str
    possible: bool
    reason: str


def audit(figures: Mapping[str, PrintedFigure]) -> list[Verdict]:
    """One verdict for each convention, of a Dice with its IoU, precision and recall, or all."""
    dice, iou = figures.get("dice"), figures.get("iou")
    by_parts = "precision" in figures and "recall" in figures
    if dice is None or (iou is None and not by_parts):
        raise InputError(
            "figures are audited in pairs; give --dice with --iou, or with --precision and --recall."
        )
    verdicts = [_pooled(dice, iou, figures)]
    if iou is None:
        unbound = "precision and recall alone do not bind it; give the IoU too"
        others = ("image", "batch", "two_class")
        return verdicts + [Verdict(name, True, unbound) for name in others]
    return [
        *verdicts,
        _mean_verdict(dice, iou, "image", IMAGE_SDS),
        _mean_verdict(dice, iou, "batch", BATCH_SDS),
        _two_class(dice, iou),
    ]


def _g(dice: float) -> float:
    return dice / (2 - dice)


def _pooled(
    dice: PrintedFigure, iou: PrintedFigure | None, figures: Mapping[str, PrintedFigure]
) -> Verdict:
    reasons, possible = [], True
    if iou is not None:
        possible = iou.meets(_g(dice.low), _g(dice.high))
        gap = _gap(dice, iou)
        reasons.append(f"IoU = D / (2 - D) {'holds' if possible else f'is missed by {gap:+.4f}'}")
    if "precision" in figures and "recall" in figures:
        precision, recall = figures["precision"], figures["recall"]
        ends = [_harmonic(precision.low, recall.low), _harmonic(precision.high, recall.high)]
        holds = dice.meets(*ends)
        possible = possible and holds
        reasons.append(f"D = 2PR / (P + R) {'holds' if holds else f'would be {sum(ends) / 2:.4f}'}")
    return Verdict("pooled", possible, "; ".join(reasons))


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _gap(dice: PrintedFigure, iou: PrintedFigure) -> float:
    """The distance at which IoU lies from where it would be pooled; 0 within rounding."""
    low, high = _g(dice.low), _g(dice.high)
    return max(iou.low - high, 0.0) + min(iou.high - low, 0.0)


def _mean_verdict(
    dice: PrintedFigure, iou: PrintedFigure, convention: str, plausible: tuple[float, float]
) -> Verdict:
    units = {"image": "images", "batch": "batches"}[convention]
    if iou.low > dice.high:
        return Verdict(convention, False, "IoU above Dice is impossible")
    if iou.high < _g(dice.low):
        return Verdict(
            convention,
            False,
            "IoU below D / (2 - D) is impossible for means of one set of predictions",
        )
    least = _implied_deviation(dice, iou.low - _g(dice.high))
    most = _implied_deviation(dice, iou.high - _g(dice.low))
    words = f"the Dice of {units} would have an SD of about {(least + most) / 2:.3f}"
    if most < plausible[0]:
        return Verdict(convention, False, f"{words}: too equal")
    if least > plausible[1]:
        return Verdict(convention, False, f"{words}: too different")
    return Verdict(convention, True, words)


def _implied_deviation(dice: PrintedFigure, excess: float) -> float:
    """SD of Dice over units of which the mean IoU exceeds g of the mean Dice by this much."""
    return math.sqrt(max(excess, 0.0) * (2 - dice.middle) ** 3 / 2)


def _two_class(dice: PrintedFigure, iou: PrintedFigure) -> Verdict:
    """Judge by the spread of the two classes around their mean.

    It raises IoU from g(D), where they are equal.
    """
    if iou.high < _g(dice.low):
        return Verdict("two_class", False, "IoU below D / (2 - D) is impossible")
    most = 1 - dice.middle  # the background is at most perfect
    if _iou_of_two(dice.high, 1 - dice.high) < iou.low:
        return Verdict("two_class", False, "IoU too high, even with a perfect background")
    spread = _solve(dice.middle, min(iou.high, _iou_of_two(dice.middle, most)))
    foreground, background = dice.middle - spread, dice.middle + spread
    share = (1 - background) / (2 - foreground - background) if dice.middle < 1 else 0.0
    words = (
        f"Dice {foreground:.3f} and {background:.3f} (background): {share:.0%} or more "
        "of the frame would be foreground"
    )
    return Verdict("two_class", share <= FOREGROUND, words)


def _iou_of_two(mean: float, spread: float) -> float:
    return (_g(max(mean - spread, 0.0)) + _g(mean + spread)) / 2


def _solve(mean: float, iou: float) -> float:
    """The spread at which two classes around the mean Dice have the mean IoU, by bisection."""
    low, high = 0.0, 1 - mean
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _iou_of_two(mean, middle) < iou else (low, middle)
    return high


def answer(verdicts: Sequence[Verdict]) -> str:
    """The verdict in words: ``pooled``, or ``not pooled: image or batch``.

    Batches that are all alike score as if pooled: where pooled is possible, they are not named.
    """
    possible = [verdict.convention for verdict in verdicts if verdict.possible]
    if "pooled" in possible:
        return " or ".join(convention for convention in possible if convention != "batch")
    return f"not pooled: {' or '.join(possible) or 'no convention fits; the figures belong to different predictions'}"


def half_width(images: int) -> float:
    """Half of the 95 % interval of a mean Dice over so many images, with `IMAGE_SD`."""
    return 1.96 * IMAGE_SD / math.sqrt(images)


# --- the command ---


def main(args: list[str]) -> None:
    """``lightning-seg audit --dice .9411 --iou .8889 [...]`` or ``--table reported.csv``."""
    parser = OptionParser(
        prog="lightning-seg audit",
        description="Which conventions published figures can be, and how sure they were.",
    )
    for name in FIGURES:
        parser.add_argument(
            f"--{name}", metavar=".9411", help="as printed: its digits tell how it was rounded"
        )
    parser.add_argument(
        "--n-images", type=int, metavar="N", help="images that were scored, for the interval"
    )
    parser.add_argument(
        "--table",
        type=Path,
        help="audit a CSV with the columns model, dataset, protocol, score, value, source",
    )
    parser.add_argument(
        "--versus",
        metavar=".915",
        help="the Dice that --dice is said to be better than: how likely that is false",
    )
    parser.add_argument(
        "--sd",
        nargs=2,
        type=float,
        metavar=("A", "B"),
        help="of the Dice over images of both, where they are known",
    )
    parser.add_argument(
        "--correlation", type=float, help="of both over images, where it is known (-1 to 1)"
    )
    options = parser.parse_args(args)
    if options.n_images is not None and options.n_images < 2:
        raise InputError(f"--n_images is {options.n_images}; give 2 or more.")
    if options.versus is not None:
        _print_claim(options)
    elif options.table is not None:
        _print_table(options.table)
    else:
        texts = {name: getattr(options, name) for name in FIGURES}
        given = {name: text for name, text in texts.items() if text is not None}
        _print_verdicts(audit(_parsed(given)))
    if options.n_images is not None and options.sd is None:
        width = half_width(options.n_images)
        print(
            f"95 % interval of a mean Dice over {options.n_images} images: about +-{width:.3f}, "
            f"if the Dice of single images spreads as is usual (standard deviation {IMAGE_SD})"
        )


def _print_claim(options: argparse.Namespace) -> None:
    if options.dice is None or options.n_images is None:
        raise InputError(
            "a claim needs --dice (of the better), --versus and --n_images, the number of images "
            "that both were scored on."
        )
    unused = [f"--{name}" for name in FIGURES[1:] if getattr(options, name) is not None]
    if unused:
        raise InputError(
            f"a claim is of two Dice, and {' and '.join(unused)} would have no part in it; leave it out, or "
            "leave out --versus to audit the figures of one method."
        )
    better = PrintedFigure.parse("dice", options.dice).value
    worse = PrintedFigure.parse("versus", options.versus).value
    deviations = options.sd or (None, None)
    claim = Claim.of_means(better, worse, options.n_images, deviations)
    for line in claim_lines(claim, options.correlation):
        print(line)


def _parsed(texts: Mapping[str, str]) -> dict[str, PrintedFigure]:
    return {name: PrintedFigure.parse(name, text) for name, text in texts.items()}


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        print(
            f"  {verdict.convention:10} {'possible' if verdict.possible else 'no':9} {verdict.reason}"
        )
    print(f"answer: {answer(verdicts)}")


def _print_table(path: Path) -> None:
    header = ("model", "data set", *FIGURES, "said or deduced", "audit", "IoU off D / (2 - D)")
    rows = [_verdict_row(row, texts) for row, texts in read_reported(path)]
    Table(header, rows, title=str(path), left=header).show(width=160)


def _verdict_row(
    row: Mapping[str, str],
    texts: Mapping[str, str],
) -> list[str]:
    figures = _parsed(texts)
    gap = f"{_gap(figures['dice'], figures['iou']):+.4f}" if "iou" in figures else ""
    printed = [texts.get(name, "") for name in FIGURES]
    said = row.get("convention", "")
    return [_row_label(row), row["dataset"], *printed, said, answer(audit(figures)), gap]


def _row_label(row: Mapping[str, str]) -> str:
    return f"{row['model']} ({row['source']})" if row.get("source") else row["model"]


def read_reported(
    path: Path,
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The common words of a table with one figure a row: what the rows of one evaluation share, and its figures,
    where they can be audited."""
    if not path.is_file():
        raise InputError(
            f"there is no table {str(path)!r}; give a CSV such as experiments/results/reported.csv."
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [
        name for name in ("model", "dataset", "score", "value") if not rows or name not in rows[0]
    ]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}; give the columns model, dataset, score and value."
        )
    found: dict[tuple[str, ...], list[tuple[dict[str, str], dict[str, str]]]] = {}
    for row in rows:
        shared = [
            name
            for name in ("model", "options", "dataset", "protocol", "convention", "source")
            if name in row
        ]
        sets = found.setdefault(tuple(row[name] for name in shared), [(row, {})])
        score = "dice" if row["score"] == "f1" and "dice" not in sets[-1][1] else row["score"]
        if score in sets[-1][1]:  # the same figure again: another evaluation
            sets.append((row, {}))
        if score in FIGURES:
            sets[-1][1][score] = row["value"]
    for row, figures in (each for sets in found.values() for each in sets):
        if "dice" in figures and ("iou" in figures or {"precision", "recall"} <= figures.keys()):
            yield row, figures
