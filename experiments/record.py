"""``python -m experiments record runs/<name> ...``: keep what tested runs found in
``experiments/results/``, where git sees it.

Of each run: its per-image table and its facts below ``scores/``, and its scores with their
intervals in ``reproduced.csv``.
"""

import argparse
import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import isnan
from pathlib import Path

from experiments.contribution import REQUIREMENTS, check_contribution
from experiments.copies import KnownTables
from experiments.facts import (
    RecordedResult,
    RunFacts,
    load_results,
    read_facts,
    results_folder,
    words,
    write_facts,
)
from experiments.runs import find_runs, results_of, scores_of
from lightning_seg.errors import InputError
from lightning_seg.evaluation import SCORES, ScoreTable, per_image, pooled
from lightning_seg.evaluation.summary import Scores, Summary
from lightning_seg.files import write_whole
from lightning_seg.options import OptionParser, add_trust_option, shell_command
from lightning_seg.runs.cross_validation import CrossValidation
from lightning_seg.runs.scored_weights import check_scores

_ROUNDED = 1e-4  # scores are recorded with four digits
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
    "threads",
    "load",
    "ending",
    "table",
    "note",
)


def main(args: list[str]) -> None:
    """Record every tested run of the folders; what is known already stays as it is."""
    options = _parser().parse_args(args)
    known = {name: getattr(options, name) for name in ("recipe", "commit", "hardware")}
    found: list[RecordedResult] = []
    untested: list[Path] = []
    for run in find_runs(options.folders):
        tested = list(results_of(run, known, options.trust_code))
        if not tested:
            untested.append(run)
            print(f"{run}: {_lack(run)}; passed over")
        found += tested
    if options.contributed:
        check_contribution(found, untested, options.trust_code)
    rules = Rules(options.replace, options.allow_changed, options.latency)
    done, refused = record(found, options.results, rules)
    place = ["--results", options.results] if options.results != results_folder() else []
    board = shell_command("lightning-seg", "leaderboard", *place)
    print(f"{done} recorded in {options.results}; next: {board}")
    if refused:
        others = f" (So it is with {len(refused)} runs.)" if refused[1:] else ""
        raise InputError(refused[0] + others)


def _lack(run: Path) -> str:
    """What is missing of a run without a result."""
    validation = CrossValidation.open(run)
    if validation is not None and validation.unfinished:
        return validation.unfinished
    return (
        "its best checkpoint was not tested on a whole split (lightning-seg test --ckpt_path ...)"
    )


@dataclass(frozen=True)
class Rules:
    """The choice of what is recorded.

    Attributes:
        replaced: a run takes the place of another of the same training and seed.
        changed: the code may differ from its commit.
        latency: it is measured here how long one image takes.
    """

    replaced: bool = False
    changed: bool = False
    latency: bool = False


def record(
    results: Iterable[RecordedResult],
    folder: Path,
    rules: Rules = Rules(),
) -> tuple[int, list[str]]:
    """Keep results below ``folder``: how many are new, and why others are refused.

    The tables are written first, then all rows at once, then the facts: where the facts of a run
    are, everything of it is.
    """
    new: dict[Path, RecordedResult] = {}
    contents: dict[Path, set[str]] = {}
    tables = KnownTables(load_results(folder))
    refused = []
    for result in results:
        file = folder / "scores" / result.facts.place
        try:
            _check_images(result, file.parent, contents)
            if not _is_kept(result, file, rules):
                _check_new(result, file, new, rules)
                tables.add(result)
                check_scores(Summary.read(result.file.parent), result.file.parent)
                new[file] = result
                contents[file.parent].add(result.facts.content)
        except InputError as error:
            refused.append(str(error))
    for file, result in new.items():
        file.with_suffix(".json").unlink(missing_ok=True)
        write_whole(file, result.file.read_bytes())
    if new:
        _write_rows(folder / "reproduced.csv", new.values())
    for file, result in new.items():
        facts = _with_latency(result.facts) if rules.latency else result.facts
        write_facts(facts, file.with_suffix(".json"))
        print(f"recorded {facts.model}, seed {facts.seed}: {file}")
    return len(new), refused


def _is_kept(result: RecordedResult, file: Path, rules: Rules) -> bool:
    """Tell whether the result is there already, and is to stay.

    Raises:
        InputError: another run of the same training and seed is there.
    """
    kept = file.with_suffix(".json")
    if rules.replaced or not kept.is_file():
        return False
    before = read_facts(kept)
    if file.read_bytes() != result.file.read_bytes():
        raise InputError(
            f"{file} holds another run of this training and seed (commit "
            f"{before.commit or 'unknown'}), with other scores; keep it, or give --replace if that "
            "run was faulty: the better of two is no result."
        )
    if rules.latency and before.latency_ms is None:
        write_facts(_with_latency(before), kept)
    return True


def _check_images(result: RecordedResult, folder: Path, contents: dict[Path, set[str]]) -> None:
    """InputError for a result of other images than those recorded under its protocol.

    Args:
        folder: of the results of the protocol.
        contents: digests of the images of the results in a folder, which are read once.
    """
    facts = result.facts
    if folder not in contents:
        contents[folder] = {read_facts(each).content for each in folder.glob("*.json")}
    if facts.content and contents[folder] - {facts.content, ""}:
        raise InputError(
            f"{result.file} is of other images or masks than the results in {folder}, though "
            f"both are under protocol {facts.protocol!r} and bear the same ids; test the run on "
            "the data of those results, or give these images a protocol of their own."
        )


def _check_new(
    result: RecordedResult, file: Path, new: Mapping[Path, RecordedResult], rules: Rules
) -> None:
    """InputError for what is no result, or not one that can be made again."""
    facts = result.facts
    if "-dirty" in facts.commit and not rules.changed:
        raise InputError(
            f"{result.file.parent} was made by code that differs from its commit {facts.commit}, so "
            "nobody can make it again; train it from a committed state, or give --allow-changed."
        )
    if file in new and new[file].file.read_bytes() != result.file.read_bytes():
        raise InputError(
            f"{new[file].file} and {result.file} are two runs of the same training and seed; "
            "record one of them: the better of two is no result."
        )
    pending = [other.file for place, other in new.items() if place.parent == file.parent]
    tables = [each for each in file.parent.glob("*.csv") if each != file]
    tables += pending
    if tables and ScoreTable.read(tables[0]).ids != result.table.ids:
        raise InputError(
            f"{result.file} holds {len(result.table.ids)} images, not those of {tables[0]}; "
            "test the whole split again."
        )
    for name in ("commit", "hardware", "minutes"):
        if not getattr(facts, name):
            print(f"{result.file.parent}: {name} is not known, the run has not kept it")


def _write_rows(file: Path, results: Iterable[RecordedResult]) -> None:
    """The scores of runs in place of those that stood there for them; all other rows stay."""
    new = [row for result in results for row in rows_of(result.facts, scores_of(result))]
    tables = {row["table"] for row in new}
    kept = [row for row in read_rows(file) if row["table"] not in tables]
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


def check_rows(results: Iterable[RecordedResult], rows: Iterable[dict[str, str]]) -> None:
    """InputError where a recorded table does not give the scores that were recorded of it."""
    tables = {result.facts.place.as_posix(): result for result in results}
    for row in rows:
        result, score, name = tables.get(row["table"]), row["score"], row["class"]
        if result is None or score not in SCORES or row["convention"] not in ("image", "pooled"):
            continue
        counts = result.table.of(name)
        pooling = row["convention"] == "pooled"
        value = pooled(counts, score) if pooling else per_image(counts, score).mean()
        if abs(float(value) - float(row["value"])) > _ROUNDED:
            raise InputError(
                f"{result.file} gives the {score} ({row['convention']}) {float(value):.4f}, and "
                f"reproduced.csv says {row['value']}: one of them was changed by hand; record the "
                "run again with --replace."
            )


def rows_of(facts: RunFacts, scores: Scores) -> list[dict[str, str]]:
    """One row per class, convention and score."""
    changes = ", ".join(f"{key}={words(value)}" for key, value in facts.changes.items())
    common = {name: getattr(facts, name, "") for name in COLUMNS} | {
        "options": words(facts.options) if facts.options else "",
        "encoder_weights_sha256": facts.encoder_weights.get("sha256", ""),
        "table": facts.place.as_posix(),
        "note": "; ".join(filter(None, [changes, facts.doubts])),
    }
    rows = [
        {"class": name, "convention": convention, "score": score}
        | dict(
            zip(
                ("value", "low", "high"),
                ("" if isnan(v) else f"{v:.4f}" for v in (value.value, *value.interval)),
                strict=True,
            )
        )
        for name, by_score in scores.items()
        for score, by_convention in by_score.items()
        for convention, value in by_convention.items()
    ]
    return [{k: "" if v is None else str(v) for k, v in (common | row).items()} for row in rows]


def _with_latency(facts: RunFacts) -> RunFacts:
    """Milliseconds for one image on this machine; nothing where the images have no one size."""
    if not isinstance(facts.size, int):
        return facts
    milliseconds, on = _measure(facts.network, facts.size)
    return replace(facts, latency_ms=milliseconds, latency_on=on)


@cache
def _measure(network: str, size: int) -> tuple[float, str]:
    from lightning_seg.analysis.profiling import profile, profiled_device
    from lightning_seg.runs.environment import environment, hardware

    device = profiled_device(None)
    timing = profile(network, size, device, most=1).single
    return round(1e3 * timing.median, 2), hardware(environment(device))


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(prog="python -m experiments record", description=__doc__)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        help="runs/<name>, a version of it, or the folder of a sweep",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=results_folder(),
        help="where to keep them (default: experiments/results of a checkout, elsewhere ./results)",
    )
    parser.add_argument(
        "--contributed",
        action="store_true",
        help=f"for results of others, all of which must have: {'; '.join(REQUIREMENTS)}",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="in place of a faulty run of the same training and seed",
    )
    parser.add_argument(
        "--allow-changed",
        action="store_true",
        help="also runs of code that differs from its commit (-dirty)",
    )
    add_trust_option(parser)
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
