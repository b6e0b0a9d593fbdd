"""``lightning-seg compare``: the differences of runs over the same images, as a table."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lightning_seg.data.split_sizes import FEWEST_UNITS
from lightning_seg.errors import InputError
from lightning_seg.evaluation.compare import compare_models, holm
from lightning_seg.evaluation.conventions import LOWER_IS_BETTER, SCORES
from lightning_seg.evaluation.intervals import statistic
from lightning_seg.evaluation.measures import MEASURES
from lightning_seg.evaluation.strata import strata
from lightning_seg.evaluation.table import ScoreTable
from lightning_seg.options import OptionParser
from lightning_seg.reports.unpaired import print_unpaired
from lightning_seg.runs import Run
from lightning_seg.runs.scored_models import ScoredModel, check_alike, read_runs, unlike_uses
from lightning_seg.tables import NONE, Table, number_text

DEFAULT_SCORES = ("dice", "iou", *(each.name for each in MEASURES if each.heading))
_HEADER = (
    "runs",
    "class",
    "score",
    "convention",
    "images",
    "difference",
    "95 %",
    "p",
    "p Wilcoxon",
    "in words",
)
_NOTE = (
    "Differences are the first run minus the second over the same images, intervals BCa "
    "bootstraps over {units}; p, of the bootstrap and of Wilcoxon's signed ranks, are corrected by "
    "Holm over all pairs; `tied` is a corrected bootstrap p over .05; over fewer than {fewest} images "
    "or groups there is no interval, and none is called better. Wilcoxon's is of means over images "
    "or groups of images alone.{lower}"
)


def main(args: list[str]) -> None:
    """``lightning-seg compare runs/a runs/b [...]``."""
    parser = OptionParser(prog="lightning-seg compare", description="Paired differences of runs.")
    parser.add_argument(
        "runs",
        nargs="+",
        help="runs (name, folder or .ckpt file) or score tables; seeds of one model joined by commas, "
        "with a name if you like: unet=runs/a,runs/b",
    )
    parser.add_argument(
        "--split", choices=("test", "val"), help="default: test where it was scored, else val"
    )
    parser.add_argument(
        "--score",
        nargs="+",
        default=list(DEFAULT_SCORES),
        help="default: %(default)s, as far as stored",
    )
    parser.add_argument(
        "--resamples", type=int, default=2000, help="of the bootstrap, default %(default)s"
    )
    parser.add_argument(
        "--unpaired",
        action="store_true",
        help="two results over different images, such as in domain against external",
    )
    options = parser.parse_args(args)
    if options.resamples < 100:
        raise InputError(f"--resamples is {options.resamples}; give 100 or more.")
    runs = read_runs(options.runs, options.split)
    if len(runs) < 2:
        raise InputError("one run cannot be compared; give two or more.")
    if not options.unpaired:
        check_alike(runs)
    scores = [
        score
        for score in options.score
        if options.score != list(DEFAULT_SCORES) or _stored(runs, score)
    ]
    if options.unpaired:
        print_unpaired(runs, scores, options.resamples)
        return
    _print_lines(
        runs, [row for score in scores for row in _score_lines(runs, score, options.resamples)]
    )


def _stored(runs: Sequence[ScoredModel], score: str) -> bool:
    return score in SCORES or all(score in table.measures for run in runs for table in run.tables)


def _score_lines(
    runs: Sequence[ScoredModel], score: str, resamples: int
) -> Iterator[tuple[str, ...]]:
    """Lines of the table: per class and convention all pairs, of the mean over images also by size of the lesions."""
    table = runs[0].tables[0]
    for name in table.classes:
        for convention in _conventions(table, score):
            everything = np.ones(len(table.ids), dtype=bool)
            yield from _pair_lines(runs, name, score, convention, "", everything, resamples)
        if score not in SCORES or len(runs) > 2:
            continue
        for stratum in (each for each in strata(table, name) if not each.rows.all()):
            yield from _pair_lines(
                runs, name, score, "image", stratum.name, stratum.rows, resamples
            )


def _conventions(table: ScoreTable, score: str) -> list[str]:
    if score == "ece":
        return ["pooled"]
    if score in table.measures:
        return ["image"]
    fov = ["image_fov", "pooled_fov"] if table.fov_counts is not None else []
    return ["image", "pooled", *(["volume"] if table.grouped else []), *fov]


def _pair_lines(
    runs: Sequence[ScoredModel],
    name: str,
    score: str,
    convention: str,
    part: str,
    rows: NDArray[np.bool_],
    resamples: int,
) -> Iterator[tuple[str, ...]]:
    pairs, kept = list(combinations(runs, 2)), np.flatnonzero(rows)
    resamples = max(resamples, 100 * len(pairs))  # or no difference could survive Holm's correction
    tables = {run.name: [table.at(kept) for table in run.tables] for run in runs}
    found = [
        compare_models(tables[a.name], tables[b.name], name, score, convention, resamples)
        for a, b in pairs
    ]
    bootstrap, ranks = (
        holm([getattr(each, p) for each in found]) for p in ("p_bootstrap", "p_wilcoxon")
    )
    for (a, b), each, p, q in zip(pairs, found, bootstrap, ranks, strict=True):
        yield (
            f"{a.name} - {b.name}",
            name,
            score,
            f"{convention}, {part}" if part else convention,
            str(each.images),
            NONE if np.isnan(each.difference) else f"{each.difference:+.4f}",
            _range(each.low, each.high),
            _p(p),
            _p(q if each.groups >= FEWEST_UNITS else np.nan),
            _difference_words(
                a.name,
                b.name,
                each.difference * (-1 if score in LOWER_IS_BETTER else 1),
                float(p),
                each.groups,
            ),
        )


def _range(low: float, high: float) -> str:
    return NONE if np.isnan(low) else f"{low:+.4f} to {high:+.4f}"


def _p(value: float) -> str:
    if np.isnan(value):
        return NONE
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def _difference_words(
    a: str,
    b: str,
    gain: float,
    p: float,
    units: int,
) -> str:
    if np.isnan(p) or units < FEWEST_UNITS:
        return "too few images"
    return "tied" if p > 0.05 else f"{a if gain > 0 else b} is better"


def _notes_of(model: ScoredModel) -> Iterator[str]:
    """What must be said of a model's scores and of the trainings behind them."""
    if model.summary.dataset:
        yield from model.summary.cautions()
    else:
        yield (
            f"{model.name} lies without a summary.json: of which data, threshold and checkpoint "
            "it is, is not known"
        )
    for path in model.paths:
        run = Run.holding_scores(path)
        for caution in run.cautions if run is not None else ():
            yield f"{model.name}: {caution}"


def _seeds_text(run: ScoredModel) -> str:
    """``mean of 3 seeds, Dice 0.8123 with an SD of 0.0045 over them``."""
    name = run.tables[0].classes[0]
    dice = statistic(run.tables, name, "dice").seeds
    if len(dice) == 1:
        return f"one seed, Dice {number_text(dice[0])}"
    spread = f"Dice {number_text(dice.mean())} with an SD of {number_text(dice.std(ddof=1))}"
    return f"mean of {len(dice)} seeds, {spread} over them"


def _print_lines(runs: Sequence[ScoredModel], rows: list[tuple[str, ...]]) -> None:
    summary, table = runs[0].summary, runs[0].tables[0]
    shown = ("data_name", "split", "protocol", "size", "scored_at")
    known = [
        (key.replace("data_name", "dataset"), getattr(summary, key))
        for key in shown
        if all(getattr(run.summary, key) == getattr(summary, key) for run in runs)
    ]
    units = f"{len(set(table.groups))} groups of images" if table.grouped else "images"
    small = [score for score in dict.fromkeys(row[2] for row in rows) if score in LOWER_IS_BETTER]
    lower = f" Lower is better: {', '.join(small)}." * bool(small)
    notes = [note for run in runs for note in _notes_of(run)]
    notes += [f"used unlike each other: {words}" for words in unlike_uses(runs)]
    printed = Table(
        _HEADER,
        rows,
        title=", ".join(f"{key} {value}" for key, value in known if value),
        caption=_NOTE.format(units=units, fewest=FEWEST_UNITS, lower=lower),
        left=("runs", "class", "score", "in words"),
        note="\n".join(dict.fromkeys(notes)),
    )
    for run in runs:
        print(f"{run.name}: {_seeds_text(run)}: {', '.join(map(str, run.paths))}")
    printed.show(width=150)
