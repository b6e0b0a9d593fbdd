"""What probabilities, guarantees and confidences are worth: the rows of ``figures.csv``."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from trust_tables import Row, opened

from lightning_seg.analysis.guarantee import split_curves, split_groups
from lightning_seg.data.splits import RESERVED
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, bca, per_image, statistic
from lightning_seg.evaluation.conformal import ERRORS, Kind, controlled_threshold, unit_losses
from lightning_seg.evaluation.intervals import mean_of
from lightning_seg.evaluation.scored_table import scores_file
from lightning_seg.evaluation.selective import risk_coverage
from lightning_seg.inference.predictor import load
from lightning_seg.inference.split import DataSplit
from lightning_seg.runs import Run, find_checkpoint, find_run

PROMISES: tuple[tuple[Kind, float], ...] = (("outer", 0.1), ("outer", 0.05))
DRAWS, SHARE, RESPLITS = 5, 0.6, 1000
Curves = NDArray[np.float64]


def measure(before: str, after: str) -> list[Row]:
    """All figures of a run and its calibrated twin."""
    runs = find_run(before), find_run(after)
    plain, scaled = map(scored_table, runs)
    data = opened(find_checkpoint(before))
    if len(data.data.classes) > 1:
        raise InputError("these figures are of networks of one class.")
    rows = [*calibration_rows(plain, scaled), *coverage_rows(runs[0], data)]
    rows += order_rows(plain, "one pass")
    passes = scored_table(runs[0], "tta=flips-best-")
    rows += order_rows(passes, "mean of 4 test-time passes (flips)")
    home = {"protocol": data.data.protocol_name, "size": data.data.hparams["size"] or "native"}
    return [home | row for row in rows]


def scored_table(run: Run, start: str = "best-") -> ScoreTable:
    """The table of a run's own test, in a folder whose name starts so."""
    folders = [one for one in run.score_folders("test") if one.name.startswith(start)]
    if not folders:
        raise InputError(f"{run.folder} holds no test {start}*; run lightning-seg test.")
    return ScoreTable.read(scores_file(folders[0]))


def _row(figure: str, value: float, interval: Sequence[float], units: int, note: str) -> Row:
    low, high = interval
    numbers = {"value": f"{value:.5f}", "low": f"{low:.5f}", "high": f"{high:.5f}"}
    return {"figure": figure, **numbers, "units": units, "note": note}


def calibration_rows(plain: ScoreTable, scaled: ScoreTable) -> Iterator[Row]:
    """ECE of all pixels together, before and after, and the paired difference."""
    [name] = plain.classes
    found = [statistic([table], name, "ece") for table in (plain, scaled)]
    change = found[1].minus(found[0])
    named = zip(("before", "after", "after - before"), (*found, change), strict=True)
    for when, one in named:
        yield _row(f"ECE {when}", one.value, bca(one), len(one.sums), "test, pooled over pixels")


def coverage_rows(run: Run, home: DataSplit) -> Iterator[Row]:
    """The error on test of promises that were fitted to re-draws of the reserved images."""
    data, predictor = home.data, load(find_checkpoint(run.folder))
    curves = {split: split_curves(predictor, data, split) for split in (RESERVED, "test")}
    groups = {split: split_groups(data, split) for split in curves}
    for kind, rate in PROMISES:
        reserved, test = (unit_losses(curves[s][kind][:, 0], groups[s]) for s in curves)
        figure = f"{kind} contour, promised {ERRORS[kind]} {rate:g}"
        yield _tested(figure, reserved, test, rate, kind, "all reserved groups")
        for draw in range(1, DRAWS + 1):
            chosen = np.random.default_rng(draw).permutation(len(reserved))
            part = reserved[chosen[: round(SHARE * len(reserved))]]
            yield _tested(figure, part, test, rate, kind, f"draw {draw} of {DRAWS}")
        yield _resplit(figure, np.concatenate([reserved, test]), len(reserved), rate, kind)


def _tested(figure: str, fitted: Curves, test: Curves, rate: float, kind: Kind, note: str) -> Row:
    at = controlled_threshold(fitted, rate, kind)
    error = mean_of(test[:, at, None], np.arange(len(test)))
    return _row(figure, error.value, bca(error), len(fitted), note)


def _resplit(figure: str, pool: Curves, size: int, rate: float, kind: Kind) -> Row:
    """The mean error over random divisions of all groups that chose nothing, with the range of
    95 % of the divisions."""
    errors = []
    for seed in range(RESPLITS):
        order = np.random.default_rng(seed).permutation(len(pool))
        at = controlled_threshold(pool[order[:size]], rate, kind)
        errors.append(pool[order[size:], at].mean())
    bounds = np.quantile(errors, (0.025, 0.975))
    note = f"mean of {RESPLITS} divisions of reserved and test groups; 95 % of the divisions"
    return _row(figure, float(np.mean(errors)), bounds, size, note)


def order_rows(table: ScoreTable, how: str) -> Iterator[Row]:
    """AURC of 1 - Dice by the confidences, against random order and the oracle.

    Args:
        how: the maps were made, in words.
    """
    [name] = table.classes
    risk = 1 - per_image(table.of(name), "dice")
    signs = {"expected_dice": 1, "entropy": -1}
    for place, (confidence, sign) in enumerate(signs.items()):
        values = sign * table.measures[confidence][:, 0]
        found = risk_coverage(values, risk, table.groups)
        assert found is not None
        units, note = len(set(table.groups)), how
        if not place:
            shown = found.random, found.random_interval
            yield _row("AURC of random order", *shown, units, note)
            yield _row("AURC of the oracle", found.oracle, (np.nan, np.nan), units, note)
        yield _row(f"AURC by {confidence}", found.aurc, found.aurc_interval, units, note)
        gain = f"share of the possible gain, {confidence}"
        yield _row(gain, found.gain, found.gain_interval, units, note)
