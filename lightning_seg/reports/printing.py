"""The scores of a test or validation on the terminal, every one named by its convention."""

import os
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

NOTES = {
    "hd95": "px, lower is better",
    "nsd": "within {tolerance} px",
    "mae": "lower is better",
    "brier": "lower is better",
    "ece": "pooled, lower is better",
    "e_measure": "mean of 256",
    "dice_pranet": "mean of 256",
    "iou_pranet": "mean of 256",
}


def print_scores(facts: dict[str, Any]) -> None:
    """Two tables of a ``summary.json``: overlap under the two main conventions, then everything else."""
    from rich.console import Console

    console = Console(width=None if os.isatty(1) else 120)
    console.print(_overlap(facts))
    if any(facts["measures"].values()):
        console.print(_others(facts))
    for line in _lines(facts):
        console.print(line, highlight=False)


def cautions(facts: dict[str, Any]) -> Iterator[str]:
    """What must stand above every table of these scores."""
    if facts["synthetic"]:
        yield "SYNTHETIC data, says nothing about clinical performance"
    if facts["protocol_leaks"]:
        yield "this protocol LEAKS: images of one patient or sequence stand in several of its splits"
    if not (facts["groups_known"] or facts["synthetic"]):
        yield "no patients or sequences are known for these data: each image was split as if it stood for itself"


def _overlap(facts: dict[str, Any]) -> Any:
    from rich.table import Table

    note = "".join(f"[bold]{text}[/]\n" for text in cautions(facts))
    table = Table(
        title=f"{note}{facts['split']} scores: protocol {facts['protocol']} ({facts['protocol_digest']}), {facts['images']} images, "
        f"at {facts['scored_at']} ({facts['size']}), threshold {facts['threshold']}{_more(facts)}",
        caption=f"95 % BCa bootstrap intervals over {facts['resampled']}; a 0/0 score counts 1 where truth and prediction are both "
        "empty, else 0",
    )
    for column in ("class", "score", "mean over images", "95 %", "pooled over pixels", "95 %"):
        table.add_column(column, justify="left" if column in ("class", "score") else "right")
    for name, scores in facts["scores"].items():
        for score, values in scores.items():
            table.add_row(
                name, score, *(cell for key in ("image", "pooled") for cell in _cells(values[key]))
            )
    return table


def _more(facts: dict[str, Any]) -> str:
    """What made the probabilities besides one pass of one network."""
    found = facts.get("inference", {})
    tta = [f"test-time augmentation {found['tta']}"] if found.get("tta", "none") != "none" else []
    ensemble = (
        [f"mean of {len(found['ensemble']) + 1} checkpoints"] if found.get("ensemble") else []
    )
    steps = [f"post-processing {found['postprocess']}"] if found.get("postprocess") else []
    return "".join(f", {part}" for part in (*tta, *ensemble, *steps))


def _others(facts: dict[str, Any]) -> Any:
    """A compact table: two measures in a row."""
    from rich.table import Table

    table = Table(
        title="other measures and conventions; means over images where nothing else is said"
    )
    for column in ("measure", "value", "95 %") * 2:
        table.add_column(column, justify="left" if column == "measure" else "right")
    rows = list(other_scores(facts))
    half = (len(rows) + 1) // 2
    for left, right in zip_longest(rows[:half], rows[half:], fillvalue=("", "", "")):
        table.add_row(*left, *right)
    return table


def other_scores(facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """All but overlap under the two main conventions, as name with convention, value and interval."""
    for name in facts["scores"]:
        label = f"{name}: " if len(facts["scores"]) > 1 else ""
        for measure, value in facts["measures"][name].items():
            note = NOTES.get(measure, "").format(tolerance=f"{facts['nsd_tolerance']:g}")
            yield f"{label}{measure}{f' ({note})' if note else ''}", *_cells(value)
        for key, value in facts["maxima"].get(name, {}).items():
            yield f"{label}{key} (max of 256)", f"{value:.4f}", ""
        for key, value in facts["roc_auc"].get(name, {}).items():
            yield f"{label}ROC AUC (pooled{', in FOV' if key == 'fov' else ''})", f"{value:.4f}", ""
        for score, values in facts["scores"][name].items():
            for convention in (key for key in values if key not in ("image", "pooled")):
                yield f"{label}{score} ({convention})", *_cells(values[convention])


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """By size and number of lesions, and what was empty."""
    for name, parts in facts["strata"].items():
        if len(parts) > 1:
            values = ", ".join(
                f"{part['name']} {part['value']:.3f} ({part['images']})" for part in parts
            )
            yield f"mean Dice of {name} by size (thirds) and number of lesions (images): {values}"
        empty = facts["empty"][name]
        if empty["images"]:
            yield f"{empty['images']} images without {name}: false positives in {empty['false_positive_rate']:.0%} of them"


def _cells(value: dict[str, Any]) -> tuple[str, str]:
    low, high = value["interval"]
    digits = 2 if value["value"] >= 10 else 4
    return f"{value['value']:.{digits}f}", f"{low:.{digits - 1}f} - {high:.{digits - 1}f}"
