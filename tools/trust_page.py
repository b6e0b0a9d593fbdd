"""What probabilities, guarantees and confidences are worth on real data: ``docs/trust.md``; what
corruptions of the images do: ``docs/robustness.md``; and ``docs/negative-results.md`` on other ways
to cut probabilities.

    python tools/trust_page.py robustness runs/kvasir
    python tools/trust_page.py measure runs/kvasir runs/kvasir-calibrated
    python tools/trust_page.py cuts runs/kvasir:runs/kvasir-calibrated runs/clinicdb runs/drive
    python tools/trust_page.py pages

``robustness`` trains the network where the run is not there yet, scores it under all corruptions
where that was not done, and makes its page. ``measure`` takes a tested run under a protocol that
reserves images, and the same run after ``calibrate``, tested too. ``cuts`` needs ``pip install
rankseg``; rows of data sets that are not named stay. All write a table into
``experiments/results/trust``, from which ``pages`` makes the pages, and the ledger of the runs
counts their looks at the test split.
"""

import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.analysis.guarantee import split_curves, split_groups
from lightning_seg.data.splits import RESERVED
from lightning_seg.errors import InputError, one_sentence
from lightning_seg.evaluation import ScoreTable, bca, per_image, statistic
from lightning_seg.evaluation.conformal import ERRORS, Kind, controlled_threshold, unit_losses
from lightning_seg.evaluation.conventions import positions
from lightning_seg.evaluation.intervals import mean_of
from lightning_seg.evaluation.robustness import FILE as CORRUPTIONS_FILE
from lightning_seg.evaluation.robustness import Robustness
from lightning_seg.evaluation.scored_table import scores_file
from lightning_seg.evaluation.selective import risk_coverage
from lightning_seg.inference.predictor import load
from lightning_seg.inference.split import DataSplit, count_look, open_split
from lightning_seg.reports.robustness import meaning_of
from lightning_seg.runs import Run, find_checkpoint, find_run
from lightning_seg.runs.chosen_threshold import resolve_threshold

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments" / "results" / "trust"
DOCS = ROOT / "docs"
FIGURES, CUTS, ROBUSTNESS = "figures.csv", "cuts.csv", "corruptions.csv"
TRAINED_AS = (
    "-c experiments/unet_mobilenetv2_kvasir_cpu.yaml --data.size 128 --trainer.max_epochs 20 "
    "--data.protocol reserve-42-of-kvasir-60-20-20-v2"
)  # the options of `fit` behind the figures on Kvasir-SEG
PROMISES: tuple[tuple[Kind, float], ...] = (("outer", 0.1), ("outer", 0.05))
DRAWS, SHARE, RESPLITS = 5, 0.6, 1000
TRUST = """# What probabilities and guarantees are worth

Made by `python tools/trust_page.py` from `experiments/results/trust/figures.csv`: U-Net x MobileNetV2, trained here on Kvasir-SEG
(protocol {protocol}, {size} px, 20 epochs, one seed). Intervals are 95 % bootstraps over groups, which are pairs of near-duplicates or
single images; Kvasir-SEG does not say which patient an image is of. The test images chose nothing.

## Are the probabilities right?

The expected calibration error (ECE) of the test split before and after `lightning-seg calibrate`, which fits one temperature to
the validation split.

{calibration}
## Do guaranteed contours keep their promise?

`calibrate --fnr` fits them to reserved images that trained nothing and chose neither checkpoint nor threshold; here they are
re-drawn five times, 60 % of the groups each. The false-negative rate is the share of a polyp's pixels outside the outer contour, at
the size of the pictures, on the test split. The promise is of the mean over draws of the calibration images and of the new image,
so that single draws may lie on either side of it; the mean over 1,000 divisions of all groups that chose nothing is what it bounds.

{coverage}
## Does the confidence know which masks are bad?

The area under the risk-coverage curve (AURC; less is better): the mean of 1 - Dice of the images that are kept, over all shares that
may be kept, the most confident first. Before calibration entropy orders these images better than expected Dice, by which
`look_first.csv` goes, since that also says how good a mask may be; both are far better than random order.

{order}"""
ROBUST = """# What corrupted images do to the scores

Made by `python tools/trust_page.py robustness runs/kvasir`, which trains the network where it is not there yet, tests it by
`lightning-seg test --corrupt all`, and writes `experiments/results/trust/corruptions.csv`: U-Net x MobileNetV2 on Kvasir-SEG (protocol
{protocol}, {images} test images in {groups} groups, {size} px, 20 epochs, one seed; trained with flips, rotation, and brightness,
contrast and saturation by up to 20 %). Images are corrupted at the size at which the network gets them. Mean Dice over images as they
are: {clean}.

Every figure is a mean over images with its 95 % BCa bootstrap interval over groups. Differences are paired, image by image: the same
images, masks and network.

## Dice minus that of the images as they are

{differences}
## Dice

{dice}
## What the severities are

{meanings}
{verdict}
This is one small network at 128 px: another network, size or augmentation may order the kinds otherwise, and artificial
corruptions stand for real ones of a clinic only roughly.
"""
NEGATIVE = """# Negative results

What was tried, measured, and left out.

## RankSEG and a tuned threshold as post-processing

RankDice (Dai and Li, RankSEG, JMLR 2023; package rankseg 0.0.8) cuts each map where the expected Dice is largest, with the solvers
BA+TRNA and RMA (NeurIPS 2025); the tuned threshold is the one with the highest pooled Dice on the validation split, which `fit` keeps
in each checkpoint (`--threshold val`). Networks trained here: U-Net x MobileNetV2, one seed each: 20 epochs on Kvasir-SEG, 12 on
CVC-ClinicDB (whole sequences apart), both at 128 px; 60 on DRIVE (384 px, batches of 2, the best epoch is the 38th).
"calibrated": of probabilities after `lightning-seg calibrate`, which RankSEG assumes; DRIVE validates on 4 images, too few for it.
Intervals are 95 % BCa bootstraps over groups, differences are paired. Made by `python tools/trust_page.py` from
`experiments/results/trust/cuts.csv`.

{cuts}
{verdict}
Neither becomes an option: RankDice without calibration is far worse on all three, and calibrated no better on Kvasir-SEG and
worse on CVC-ClinicDB. `--threshold val` stays what it was, a choice that nobody gets unasked: it changed nothing on Kvasir-SEG, cost
on CVC-ClinicDB, whose validation sequences are others than its test sequences, and gained on DRIVE, where it was found on 4 images:
no rule from three data sets and one seed each.
"""
Curves = NDArray[np.float64]
Row = dict[str, Any]


# --- the figures of one run -------------------------------------------------------------------


def measure(before: str, after: str) -> list[Row]:
    """All figures of a run and its calibrated twin."""
    runs = find_run(before), find_run(after)
    plain, scaled = map(scored_table, runs)
    data = _opened(find_checkpoint(before))
    if len(data.data.classes) > 1:
        raise InputError("these figures are of networks of one class.")
    rows = [*calibration_rows(plain, scaled), *coverage_rows(runs[0], data)]
    rows += order_rows(plain, "one pass")
    passes = scored_table(runs[0], "tta=flips-best-")
    rows += order_rows(passes, "mean of 4 test-time passes (flips)")
    home = {"protocol": data.data.protocol_name, "size": data.data.hparams["size"] or "native"}
    return [home | row for row in rows]


def _opened(checkpoint: Path) -> DataSplit:
    """The test split of a checkpoint; the ledger of its run counts the look."""
    home = open_split(checkpoint, "test", {})
    looks = count_look(home, checkpoint)
    print(f"looks at the {home.describe()}, this one included: {looks}")
    return home


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


# --- corruptions ------------------------------------------------------------------------------


def robustness_rows(name: str) -> list[Row]:
    """The scores of a run under all corruptions; it is trained and tested where it was not."""
    place = Path(name)
    where = ["--name", place.name, "--runs", str(place.resolve().parent)]
    if not place.is_dir():
        _lightning_seg("fit", *TRAINED_AS.split(), *where)
    files = _corruption_files(name)
    if not files:
        _lightning_seg("test", "--ckpt_path", "best", *where, "--corrupt", "all")
        files = _corruption_files(name)
    found = Robustness.read(files[0])
    if len(found.clean) > 1:
        raise InputError("these figures are of networks of one class.")
    [(class_name, clean)] = found.clean.items()
    table = ScoreTable.read(files[0].parent / "noise-1" / "scores.csv")
    about = {
        "protocol": found.protocol,
        "size": found.size,
        "images": found.images,
        "groups": len(set(table.groups)),
        "seed": found.seed,
    }
    rows = [about | {"kind": "clean", "severity": 0} | _named("dice", *clean["dice"])]
    for one in found.of(class_name):
        figures = _named("dice", one.value, *one.interval)
        figures |= _named("difference", one.difference, *one.difference_interval)
        rows.append(about | {"kind": one.kind, "severity": one.severity} | figures)
    rows[0] |= _named("difference", 0.0, 0.0, 0.0)
    return rows


def _corruption_files(name: str) -> list[Path]:
    return sorted(find_run(name).folder.glob(f"corrupted-test-*/best-*/{CORRUPTIONS_FILE}"))


def _lightning_seg(*words: str) -> None:
    print("$ lightning-seg", *words, flush=True)
    subprocess.run([sys.executable, "-m", "lightning_seg", *words], cwd=ROOT, check=True)


def _named(name: str, value: float, low: float, high: float) -> Row:
    keys = name, f"{name}_low", f"{name}_high"
    return {key: f"{one:.5f}" for key, one in zip(keys, (value, low, high), strict=True)}


# --- other ways to cut ------------------------------------------------------------------------


def cut_rows(names: str) -> Iterator[Row]:
    """The mean Dice of the test images under each way to cut, at the network's size.

    Args:
        names: of a run; a calibrated twin may follow behind a colon.
    """
    plain, _, scaled = names.partition(":")
    file = find_checkpoint(plain)
    home = _opened(file)
    chosen = resolve_threshold("val", [file])
    dice = {f"{label}": found for label, found in _dice_by_cut(file, home, chosen, "")}
    if scaled:
        dice |= dict(_dice_by_cut(find_checkpoint(scaled), home, None, ", calibrated"))
    groups = split_groups(home.data, "test")
    members = positions(groups)
    base = mean_of(dice["threshold .5"][:, None], members)
    for label, values in dice.items():
        score = mean_of(values[:, None], members)
        change = score.minus(base)
        bounds = *bca(score), *bca(change)
        numbers = score.value, *bounds[:2], change.value, *bounds[2:]
        names_of = ("dice", "low", "high", "difference", "difference_low", "difference_high")
        yield {
            "dataset": home.data.hparams["dataset"],
            "protocol": home.data.protocol_name,
            "size": home.data.hparams["size"],
            "images": len(groups),
            "groups": len(set(groups)),
            "cut": f"{label} ({chosen:g})" if label == "threshold of val" else label,
            **{key: f"{value:.5f}" for key, value in zip(names_of, numbers, strict=True)},
        }


def _dice_by_cut(
    file: Path, home: DataSplit, chosen: float | None, suffix: str
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    from rankseg import RankSEG

    solvers = {
        "RankDice, BA+TRNA": RankSEG(output_mode="multilabel", solver="BA+TRNA"),
        "RankDice, RMA": RankSEG(output_mode="multilabel", solver="RMA"),
    }
    ways: dict[str, Any] = {"threshold .5": lambda maps: maps > 0.5} if not suffix else {}
    if chosen is not None:
        ways["threshold of val"] = lambda maps: maps > chosen
    ways |= {f"{name}{suffix}": solver.predict for name, solver in solvers.items()}
    network, data = load(file).network, home.data
    data.setup("test")
    found: dict[str, list[float]] = {name: [] for name in ways}
    for batch in data.test_dataloader():
        maps = network.probabilities(batch["image"])
        counted = batch["region"] > 0 if "region" in batch else torch.ones_like(maps) > 0
        truth = (batch["mask"] > 0) & counted
        for name, way in ways.items():
            masks = (way(maps) > 0) & counted
            found[name] += _dice(masks.flatten(1), truth.flatten(1))
    for name, values in found.items():
        yield name, np.array(values)


def _dice(masks: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Of (B, pixels); 1 where both are empty."""
    both, sizes = (masks & truth).sum(1), masks.sum(1) + truth.sum(1)
    values: list[float] = torch.where(sizes > 0, 2 * both / sizes.clamp(1), 1.0).tolist()
    return values


# --- tables and pages -------------------------------------------------------------------------


def with_other_datasets(name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows, behind those of a table that are of other data sets."""
    own = {row["dataset"] for row in rows}
    kept = read_table(name) if (FOLDER / name).is_file() else []
    return [*(row for row in kept if row["dataset"] not in own), *rows]


def write_table(name: str, rows: Sequence[Row]) -> None:
    """A table of ``experiments/results/trust``."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows:  {FOLDER / name}")


def read_table(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _numbers(row: dict[str, str], *keys: str) -> str:
    value, low, high = (float(row[key]) for key in keys)
    return f"{value:.4f}" + ("" if np.isnan(low) else f" ({low:.4f} to {high:.4f})")


def trust_page() -> str:
    """``docs/trust.md``."""
    rows = read_table(FIGURES)
    parts = {
        "calibration": [row for row in rows if row["figure"].startswith("ECE")],
        "coverage": [row for row in rows if "promised" in row["figure"]],
        "order": [row for row in rows if "AURC" in row["figure"] or "gain" in row["figure"]],
    }
    shown = {
        name: _markdown(
            ("figure", "value (95 % interval)", "groups", "of"),
            [
                (row["figure"], _numbers(row, "value", "low", "high"), row["units"], row["note"])
                for row in part
            ],
        )
        for name, part in parts.items()
    }
    about = rows[0]
    return TRUST.format(protocol=about["protocol"], size=about["size"], **shown)


def robustness_page() -> str:
    """``docs/robustness.md``."""
    clean, *rows = read_table(ROBUSTNESS)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))

    def by_severity(name: str) -> str:
        keys = name, f"{name}_low", f"{name}_high"
        lines = [
            (kind, *(_short(row, *keys) for row in rows if row["kind"] == kind)) for kind in kinds
        ]
        return _markdown(("corruption", *(f"severity {n}" for n in range(1, 6))), lines)

    worst = [row for row in rows if row["severity"] == "5"]
    worst.sort(key=lambda row: float(row["difference"]))
    lost = [row for row in rows if row["severity"] == "1" and float(row["difference_high"]) < 0]
    verdict = (
        f"At severity 5 this network loses most under {worst[0]['kind']} "
        f"({_short(worst[0], 'difference', 'difference_low', 'difference_high')}) and least under "
        f"{worst[-1]['kind']} ({_short(worst[-1], 'difference', 'difference_low', 'difference_high')}). "
        f"At severity 1 an interval lies below zero for {', '.join(r['kind'] for r in lost) or 'none'}."
    )
    return ROBUST.format(
        **{key: clean[key] for key in ("protocol", "images", "groups", "size")},
        clean=_numbers(clean, "dice", "dice_low", "dice_high"),
        differences=by_severity("difference"),
        dice=by_severity("dice"),
        meanings=_markdown(("corruption", "levels"), [(kind, meaning_of(kind)) for kind in kinds]),
        verdict=verdict,
    )


def _short(row: dict[str, str], *keys: str) -> str:
    value, low, high = (float(row[key]) for key in keys)
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def negative_page() -> str:
    """``docs/negative-results.md``."""
    rows = read_table(CUTS)
    lines = [
        (
            row["dataset"],
            f"{row['protocol']}, {row['images']} images, {row['groups']} groups",
            row["cut"],
            _numbers(row, "dice", "low", "high"),
            ""
            if row["cut"] == "threshold .5"
            else _numbers(row, "difference", "difference_low", "difference_high"),
        )
        for row in rows
    ]
    head = ("data set", "test split", "cut", "Dice, mean over images", "minus threshold .5")
    return NEGATIVE.format(cuts=_markdown(head, lines), verdict=_verdict(rows))


def _verdict(rows: Sequence[dict[str, str]]) -> str:
    """How many of the other cuts are better or worse than .5, as their intervals say."""
    others = [row for row in rows if row["cut"] != "threshold .5"]
    better = [row for row in others if float(row["difference_low"]) > 0]
    worse = [row for row in others if float(row["difference_high"]) < 0]

    def names(part: Sequence[dict[str, str]]) -> str:
        return "; ".join(f"{row['cut']} on {row['dataset']}" for row in part) or "none"

    return (
        f"Of {len(others)} other cuts {len(better)} are better than .5 by an interval above zero "
        f"({names(better)}), {len(worse)} worse ({names(worse)})."
    )


def main(args: list[str]) -> None:
    """Measure, or write the pages."""
    what, *names = args or [""]
    if what == "measure" and len(names) == 2:
        write_table(FIGURES, measure(*names))
    elif what == "cuts" and names:
        found = [row for each in names for row in cut_rows(each)]
        write_table(CUTS, with_other_datasets(CUTS, found))
    elif what == "robustness" and len(names) == 1:
        write_table(ROBUSTNESS, robustness_rows(names[0]))
        write_page("robustness.md", robustness_page())
    elif what == "pages" and not names:
        write_page("trust.md", trust_page())
        write_page("negative-results.md", negative_page())
        write_page("robustness.md", robustness_page())
    else:
        raise InputError("give robustness RUN, measure RUN CALIBRATED, cuts RUN ..., or pages.")


def write_page(name: str, text: str) -> None:
    """A page of ``docs``."""
    (DOCS / name).write_text(text, encoding="utf-8")
    print(f"page:  {DOCS / name}")


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
