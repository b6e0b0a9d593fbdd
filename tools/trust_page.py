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

import sys
from collections.abc import Sequence

import numpy as np
from trust_corruptions import robustness_rows
from trust_cuts import cut_rows
from trust_figures import measure
from trust_tables import (
    CUTS,
    FIGURES,
    ROBUSTNESS,
    ROOT,
    read_table,
    with_other_datasets,
    write_table,
)

from lightning_seg.errors import InputError, one_sentence
from lightning_seg.reports.robustness import meaning_of

DOCS = ROOT / "docs"
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
