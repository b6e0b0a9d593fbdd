"""Every number that `report`, `record` and `leaderboard` show of a test follows from scores.csv.

They are computed here once more, from the text of that file, by numpy and nothing of the project.
"""

import csv
import html
import re
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from made_runs import write_recipe

from experiments import record
from experiments.leaderboard.__main__ import main as leaderboard
from lightning_seg import cli
from lightning_seg.reports.run_page import main as report

SPLITS = ["train"] * 6 + ["val"] * 3 + ["test"] * 9
RECIPE = {
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 2},
    "data": {
        "dataset": "phantom_polyp",
        "size": 32,
        "batch_size": 2,
        "dataset_options": {"resolution": 32},
    },
    "model": {"architecture": "unet", "options": {"widths": [4, 8]}, "lr": 0.01},
}
# of all thresholds or of bins of probability, which a row of scores.csv does not hold
ELSEWHERE = ("max of 256", "ROC AUC", "ece")
Statistic = Callable[[np.ndarray], np.ndarray]  # of rows (..., n) of the table


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the commands wrote of one test, and its table."""
    folder = tmp_path_factory.mktemp("numbers")
    recipe = write_recipe(folder, RECIPE, SPLITS)
    where = ["--runs", str(folder), "--name", "a"]
    cli.run(["fit", "-c", str(recipe), *where])
    cli.run(["test", "--ckpt_path", "best", *where])
    page, results = folder / "r.html", folder / "results"
    report([str(folder / "a"), "--output", str(page), "--no-predictions"])
    record.main([str(folder / "a"), "--results", str(results), "--allow-changed"])
    leaderboard(["--results", str(results)])
    [table] = folder.glob("a/version_0/test-*/*/scores.csv")
    return {
        "rows": read_rows(table),
        "page": page_tables(page),
        "recorded": read_rows(results / "reproduced.csv"),
        "board": read_rows(results / "leaderboard.csv"),
        "text": (results / "LEADERBOARD.md").read_text(),
    }


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def page_tables(file: Path) -> list[list[list[str]]]:
    """The tables of a page: rows of cells without their marks."""
    text = re.sub(r"<svg.*?</svg>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    return [
        [
            [clean(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        ]
        for table in tables
    ]


def clean(cell: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split())


def column(shown: dict[str, Any], name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in shown["rows"]])


def score_of(counts: np.ndarray, name: str) -> np.ndarray:
    """A score of counts (..., 4): TP, FP, FN, TN."""
    tp, fp, fn, tn = np.moveaxis(counts.astype(float), -1, 0)
    above, below = {
        "dice": (2 * tp, 2 * tp + fp + fn),
        "iou": (tp, tp + fp + fn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "accuracy": (tp + tn, tp + fp + fn + tn),
        "mcc": (tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))),
    }[name]
    empty = np.where(fp + fn == 0, 1.0, 0.0) if name == "mcc" else (tp + fp + fn == 0) * 1.0
    return np.where(below > 0, above / np.where(below > 0, below, 1), empty)


def image_mean(counts: np.ndarray, name: str) -> Statistic:
    each = score_of(counts, name)
    return lambda rows: each[rows].mean(-1)


def pooled(counts: np.ndarray, name: str) -> Statistic:
    return lambda rows: score_of(counts[rows].sum(-2), name)


def two_class(counts: np.ndarray, name: str) -> Statistic:
    turned = counts[:, ::-1]
    return lambda rows: (pooled(counts, name)(rows) + pooled(turned, name)(rows)) / 2


def batched(counts: np.ndarray, name: str, size: int) -> Statistic:
    """Counts added over each ``size`` images in turn, a score of each, their mean; what is
    resampled are these batches."""
    parts = np.array([counts[i : i + size].sum(0) for i in range(0, len(counts), size)])
    return image_mean(parts, name)


def value_of(statistic: Statistic, count: int) -> float:
    return float(statistic(np.arange(count)))


def interval_of(statistic: Statistic, count: int) -> tuple[float, float]:
    """The 95 % BCa bootstrap interval (Efron, 1987)."""
    normal, whole = NormalDist(), value_of(statistic, count)
    drawn = statistic(np.random.default_rng(1).integers(0, count, (20_000, count)))
    below = np.clip((drawn < whole).mean() + (drawn == whole).mean() / 2, 1e-4, 1 - 1e-4)
    bias = normal.inv_cdf(float(below))
    left = np.array([float(statistic(np.delete(np.arange(count), i))) for i in range(count)])
    away = left.mean() - left
    spread = (away**2).sum() ** 1.5
    pull = (away**3).sum() / (6 * spread) if spread else 0.0
    ends = (bias + normal.inv_cdf(share) for share in (0.025, 0.975))
    shares = [normal.cdf(bias + end / (1 - pull * end)) for end in ends]
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)


def check_interval(text: str, statistic: Statistic, count: int) -> None:
    """Bootstraps of other random numbers agree about to a tenth of the interval."""
    if text in ("", "-"):
        assert count < 6
        return
    found = [float(part) for part in re.split(r" - | to ", text)]
    expected = interval_of(statistic, count)
    room = 0.15 * (expected[1] - expected[0]) + 0.006 * max(map(abs, expected))
    assert found == pytest.approx(expected, abs=room)


def counts_of(shown: dict[str, Any]) -> np.ndarray:
    return np.stack([column(shown, name) for name in ("tp", "fp", "fn", "tn")], axis=1)


def split_cell(cell: str) -> tuple[float, str]:
    """``0.216 0.149 - 0.313`` as a number and an interval."""
    value, _, rest = cell.partition(" ")
    return float(value), rest


def test_what_is_recorded(shown: dict[str, Any]) -> None:
    counts = counts_of(shown)
    for row in shown["recorded"]:
        name, count = row["score"], len(counts)
        convention = row["convention"]
        kinds = {"image": image_mean, "pooled": pooled, "two_class": two_class}
        statistic = (
            kinds[convention](counts, name)
            if convention in kinds
            else batched(counts, name, int(convention.removeprefix("batch")))
        )
        units = -(-count // 2) if convention == "batch2" else count
        assert float(row["value"]) == pytest.approx(value_of(statistic, units), abs=6e-5), row
        known = row["low"] and row["high"]
        check_interval(f"{row['low']} - {row['high']}" if known else "", statistic, units)
        assert int(row["images"]) == count
    assert {row["score"] for row in shown["recorded"]} >= {"dice", "iou", "precision", "recall"}


def test_the_leaderboard(shown: dict[str, Any]) -> None:
    counts = counts_of(shown)
    assert {row["convention"] for row in shown["board"]} == {"image", "pooled"}
    for row in shown["board"]:
        kind = {"image": image_mean, "pooled": pooled}[row["convention"]]
        for name in ("dice", "iou"):
            expected = value_of(kind(counts, name), len(counts))
            assert float(row[name]) == pytest.approx(expected, abs=6e-5)
        check_interval(f"{row['low']} - {row['high']}", kind(counts, "dice"), len(counts))
        cells = re.search(rf"\| {float(row['dice']):.4f} \((\S+) to (\S+)\)", shown["text"])
        bounds = [float(row["low"]), float(row["high"])]
        assert list(map(float, cells.groups())) == pytest.approx(bounds, abs=6e-4)
        assert (row["rank"], row["seeds"], row["looks"]) == ("1", "42", "1")
    boundary = (
        f"| {np.nanmean(column(shown, 'hd95')):.1f} | {np.nanmean(column(shown, 'nsd')):.4f} |"
    )
    assert boundary in shown["text"]


def test_the_scores_of_the_report(shown: dict[str, Any]) -> None:
    counts = counts_of(shown)
    head, *rows = shown["page"][0]
    assert head == ["score", "mean over images", "pooled over pixels"]
    for name, *cells in rows:
        for cell, kind in zip(cells, (image_mean, pooled), strict=True):
            value, interval = split_cell(cell)
            statistic = kind(counts, name)
            assert value == pytest.approx(value_of(statistic, len(counts)), abs=6e-4)
            check_interval(interval, statistic, len(counts))


def test_the_measures_of_the_report(shown: dict[str, Any]) -> None:
    counts, count = counts_of(shown), len(shown["rows"])
    tables = [table for table in shown["page"] if table[0] == ["measure", "value", "95 %"]]
    rows = [row for table in tables for row in table[1:] if row[0]]
    told = 0
    for title, value, interval in rows:
        if any(word in title for word in ELSEWHERE):
            continue
        name = title.split(" ")[0]
        units = count
        if "(batch" in title:
            size = int(re.search(r"batch(\d+)", title)[1])
            statistic, units = batched(counts, name, size), -(-count // size)
        elif "(two_class)" in title:
            statistic = two_class(counts, name)
        else:
            each = column(shown, name)
            statistic = lambda rows, each=each: np.nanmean(each[rows], -1)  # noqa: E731
        digits = len(value.partition(".")[2])
        expected = value_of(statistic, units)
        assert float(value) == pytest.approx(expected, abs=0.6 * 10**-digits), title
        if interval:
            check_interval(interval, statistic, units)
        told += 1
    assert told >= 15


def test_the_parts_by_size_and_number_of_lesions(shown: dict[str, Any]) -> None:
    counts = counts_of(shown)
    areas, components = counts[:, 0] + counts[:, 2], column(shown, "components")
    order = np.argsort(areas, kind="stable")
    parts = dict(zip(("small", "medium", "large"), np.array_split(order, 3), strict=True))
    parts |= {
        "one lesion": np.flatnonzero(components == 1),
        "several lesions": np.flatnonzero(components > 1),
    }
    [(head, *rows)] = [table for table in shown["page"] if table[0][0] == "lesions"]
    assert {row[0] for row in rows} == {name for name, part in parts.items() if len(part)}
    for row in rows:
        cells, part = dict(zip(head, row, strict=False)), parts[row[0]]
        tp, fp, fn, _ = counts[part].sum(0)
        value, interval = split_cell(cells["Dice, mean over images"])
        statistic = image_mean(counts[part], "dice")
        assert value == pytest.approx(value_of(statistic, len(part)), abs=6e-4)
        check_interval(interval, statistic, len(part))
        whole = value_of(pooled(counts[part], "dice"), len(part))
        assert float(cells["Dice, pooled"]) == pytest.approx(whole, abs=6e-4)
        for name, share in (("found", tp), ("missed", fn), ("false", fp)):
            number, unit = cells[name].split()
            scale = {"%": 100, "x": 1}[unit]
            assert float(number) == pytest.approx(scale * share / (tp + fn), abs=0.6)
        assert int(cells["images"]) == len(part)
        empty = (counts[part, 0] + counts[part, 1] == 0).sum()
        assert int(cells["nothing found"]) == empty


def test_which_images_to_look_at_first(shown: dict[str, Any]) -> None:
    [(_, *rows)] = [table for table in shown["page"] if "expected Dice" in table[0]]
    ids = [row["id"] for row in shown["rows"]]
    expected, dice = column(shown, "expected_dice"), score_of(counts_of(shown), "dice")
    order = np.argsort(expected, kind="stable")[: len(rows)]
    for (id, low, real), place in zip(rows, order, strict=True):
        assert id == ids[place]
        assert float(low) == pytest.approx(expected[place], abs=6e-4)
        assert float(real) == pytest.approx(dice[place], abs=6e-4)
