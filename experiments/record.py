"""``python -m experiments record runs/<name> ...``: keep what tested runs found in ``experiments/results/``, where git sees it.

Of each run: its per-image table and its facts below ``scores/``, and its scores with their intervals in ``reproduced.csv``.
"""

import argparse
import csv
import io
from dataclasses import replace
from functools import cache
from pathlib import Path

from experiments.facts import RESULTS, Facts, Result, read_facts, words, write_facts
from experiments.runs import find_runs, results_of, scores_of
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.summary import Scores
from lightning_seg.files import write_whole

COLUMNS = (
    "recipe",
    "architecture",
    "encoder",
    "options",
    "encoder_weights_sha256",
    "dataset",
    "protocol",
    "protocol_digest",
    "split",
    "images",
    "size",
    "scored_at",
    "class",
    "convention",
    "score",
    "value",
    "low",
    "high",
    "seed",
    "epochs",
    "precision",
    "looks",
    "commit",
    "hardware",
    "minutes",
    "table",
    "note",
)


def main(args: list[str]) -> None:
    """Record every tested run of the folders; what is known already stays as it is."""
    options = _parser().parse_args(args)
    done, refused = 0, []
    for run in find_runs(options.folders):
        found = list(
            results_of(
                run, {name: getattr(options, name) for name in ("recipe", "commit", "hardware")}
            )
        )
        if not found:
            print(
                f"{run}: its best checkpoint was not tested (lightning-seg test --ckpt_path ...); passed over"
            )
        for result in found:
            try:
                done += record(result, options.results, options.replace, options.latency)
            except InputError as error:
                refused.append(str(error))
    print(f"{done} recorded in {options.results}; next: python -m experiments leaderboard")
    if refused:
        raise InputError(
            refused[0] + (f" (So it is with {len(refused)} runs.)" if refused[1:] else "")
        )


def record(result: Result, results: Path, replaced: bool = False, latency: bool = False) -> bool:
    """Keep the result below ``results``; False where it is there already.

    Raises:
        InputError: another run of the same training and seed is there, and ``replaced`` is False.
    """
    file = results / "scores" / result.facts.place
    kept = file.with_suffix(".json")  # is written last: where it is, the table and the rows are
    before = read_facts(kept) if kept.is_file() else None
    if before and not replaced:
        if file.read_bytes() != result.file.read_bytes():
            raise InputError(
                f"{file} holds another run of this training and seed (commit {before.commit or 'unknown'}), with other scores; "
                "keep it, or give --replace if that run was faulty: the better of two is no result."
            )
        if latency and before.latency_ms is None:
            write_facts(_with_latency(before), kept)
        return False
    _check_images(result, file)
    facts = _with_latency(result.facts) if latency else result.facts
    for name in (name for name in ("commit", "hardware", "minutes") if not getattr(facts, name)):
        print(f"{result.file.parent}: {name} is not known, for the run kept no environment.json")
    scores = scores_of(result)
    kept.unlink(missing_ok=True)
    write_whole(file, result.file.read_bytes())
    _write_rows(results / "reproduced.csv", facts, scores)
    write_facts(facts, kept)
    print(f"recorded {facts.model}, seed {facts.seed}: {file}")
    return True


def _check_images(result: Result, file: Path) -> None:
    """A test of a part of the images is no result."""
    others = [other for other in file.parent.glob("*.csv") if other != file]
    if others and ScoreTable.read(others[0]).ids != result.table.ids:
        raise InputError(
            f"{result.file} holds {len(result.table.ids)} images, not those of {others[0]}; test the whole split again."
        )


def _write_rows(file: Path, facts: Facts, scores: Scores) -> None:
    """The scores of a run in place of those that stood there for it; all other rows stay."""
    rows = read_rows(file)
    new = rows_of(facts, scores)
    kept = [row for row in rows if row["table"] != new[0]["table"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*kept, *new])
    write_whole(file, text.getvalue().encode())


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of ``reproduced.csv``; none where there is no such file yet."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as content:
        return list(csv.DictReader(content))


def rows_of(facts: Facts, scores: Scores) -> list[dict[str, str]]:
    """One row per class, convention and score."""
    common = {name: getattr(facts, name, "") for name in COLUMNS} | {
        "options": words(facts.options) if facts.options else "",
        "encoder_weights_sha256": facts.encoder_weights.get("sha256", ""),
        "table": facts.place.as_posix(),
        "note": ", ".join(f"{key}={words(value)}" for key, value in facts.changes.items()),
    }
    rows = [
        {"class": name, "convention": convention, "score": score}
        | dict(
            zip(
                ("value", "low", "high"),
                (f"{v:.4f}" for v in (value.value, *value.interval)),
                strict=True,
            )
        )
        for name, by_score in scores.items()
        for score, by_convention in by_score.items()
        for convention, value in by_convention.items()
    ]
    return [{k: "" if v is None else str(v) for k, v in (common | row).items()} for row in rows]


def _with_latency(facts: Facts) -> Facts:
    """Milliseconds for one image on this machine; nothing where the images have no one size."""
    if not isinstance(facts.size, int):
        return facts
    milliseconds, on = _measure(facts.network, facts.size)
    return replace(facts, latency_ms=milliseconds, latency_on=on)


@cache
def _measure(network: str, size: int) -> tuple[float, str]:
    from lightning_seg.analysis.profiling import find_device, profile
    from lightning_seg.runs.environment import environment, hardware

    device = find_device(None)
    timing = profile(network, size, device, most=1).single
    return round(1e3 * timing.median, 2), hardware(environment(device))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments record", description=__doc__)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        help="runs/<name>, a version of it, or the folder of a sweep",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="where to keep them (default experiments/results)",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="in place of a faulty run of the same training and seed",
    )
    parser.add_argument(
        "--latency", action="store_true", help="measure here how long one image takes each network"
    )
    parser.add_argument(
        "--recipe", default="", help="of runs that have not kept it and are not named after it"
    )
    parser.add_argument("--commit", default="", help="of the code, for runs that have not kept it")
    parser.add_argument(
        "--hardware", default="", help="that trained them, for runs that have not kept it"
    )
    return parser
