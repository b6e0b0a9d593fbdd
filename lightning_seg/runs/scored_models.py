"""The score tables and facts of runs that a command line names."""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_seg.data.fingerprint import content_difference
from lightning_seg.data.splits import LEAK, leak_of
from lightning_seg.errors import InputError
from lightning_seg.evaluation.contradictions import check_columns
from lightning_seg.evaluation.scored_table import is_copy, scores_file
from lightning_seg.evaluation.summary import Summary, find_summary
from lightning_seg.evaluation.table import ScoreTable
from lightning_seg.files import real_path
from lightning_seg.runs.cross_validation import CrossValidation
from lightning_seg.runs.run import run_versions
from lightning_seg.runs.scored_weights import check_scores
from lightning_seg.tables import count_text

# what scores must share to be compared
ALIKE = ("dataset", "protocol_digest", "split", "scored_at", "scored_size")


# what a recorded result says of its table, as a summary names it
RECORDED = (
    *("checkpoint", "dataset", "synthetic", "protocol", "protocol_digest", "split", "images"),
    *("size", "scored_at", "threshold", "encoder_weights", "looks"),
)


class ScoredModel(NamedTuple):
    """One model: a score table per seed, and what its summary says of them."""

    name: str
    paths: list[Path]
    tables: list[ScoreTable]
    summary: Summary  # one that says nothing where a table lies alone


def read_runs(arguments: Sequence[str], split: str | None = None) -> list[ScoredModel]:
    """The models that arguments ``[name=]path[,path ...]`` name: runs, checkpoints or score tables.

    Commas join the seeds of one model.
    """
    runs = []
    for argument in arguments:
        label, rest = _split_label(argument)
        paths = [find_scores(part, split) for part in rest.split(",") if part]
        if not paths:
            raise InputError(
                f"{argument!r} names no run; give a folder such as runs/demo, or a scores.csv."
            )
        found = [_read_scored(label, path) for path in paths]
        check_alike(found)
        _check_seeds(argument, found)
        tables = [run.tables[0] for run in found]
        runs.append(
            ScoredModel(label or _run_name(rest.split(",")[0]), paths, tables, found[0].summary)
        )
    names = [run.name for run in runs]
    clash = next((name for name in names if names.count(name) > 1), None)
    if clash is not None:
        raise InputError(
            f"two runs are called {clash!r}; name them, such as first={arguments[names.index(clash)]}."
        )
    return runs


def _check_seeds(argument: str, found: Sequence[ScoredModel]) -> None:
    """InputError unless the tables that commas join are of several trainings, used alike."""
    places = [real_path(run.paths[0]) for run in found]
    if len(set(places)) < len(places):
        raise InputError(f"{argument!r} names one score table twice; give each seed once.")
    for one, other in combinations(found, 2):
        if is_copy(one.tables[0], other.tables[0]):
            raise InputError(
                f"{one.paths[0]} and {other.paths[0]} hold the same scores, as of a run and its "
                "copy; give each seed once."
            )
    first = found[0].summary
    for run in found[1:]:
        known = [each for each in (first, run.summary) if each.dataset]
        if differing := _differing_uses(known):
            raise InputError(
                f"{argument!r} joins scores of unlike uses ({'; '.join(differing)}) as seeds of one "
                "model; compare them as models of their own."
            )


def unlike_uses(runs: Sequence[ScoredModel]) -> list[str]:
    """In what the uses of models differ beside their networks, in words:
    ``threshold: 0.3 (a), 0.5 (b)``."""
    named = {run.name: run.summary for run in runs if run.summary.dataset}
    return _differing_uses(list(named.values()), list(named))


def _differing_uses(summaries: Sequence[Summary], names: Sequence[str] = ()) -> list[str]:
    uses = [summary.use() for summary in summaries]
    words = []
    for key in uses[0] if uses else ():
        values = [use[key] for use in uses]
        if len(set(values)) > 1:
            shown = [f"{v} ({n})" for v, n in zip(values, names, strict=True)] if names else values
            words.append(f"{key}: {', '.join(shown)}")
    return words


def _read_scored(label: str, path: Path) -> ScoredModel:
    summary = find_summary(path.parent)
    if not summary.dataset:
        summary = _recorded_summary(path)
    table = ScoreTable.read(path)
    if summary.dataset and (path.parent / "scores.csv").is_file():
        check_scores(summary, path.parent)
    else:  # a table that lies alone has no summary
        check_columns(table, path)
    return ScoredModel(label, [path], [table], summary)


def _recorded_summary(table: Path) -> Summary:
    """What is recorded beside a table of ``experiments/results/scores``, in ``<table>.json``;
    nothing where the table lies alone.

    Raises:
        InputError: the file is damaged.
    """
    file = table.with_suffix(".json")
    if not file.is_file():
        return Summary()
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        known = {key: facts[key] for key in RECORDED if key in facts}
        leaks = leak_of(known.get("protocol_digest", "")) or (LEAK if facts.get("leaks") else "")
        return Summary(**known, leaks=leaks, groups_known=bool(facts.get("grouped")))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} is damaged ({error}); take it from the repository once more, or move it away."
        ) from error


def _split_label(argument: str) -> tuple[str, str]:
    """The name and the rest of ``name=path,path``; no name where there is none (the folders of scores have = in theirs)."""
    label, equals, rest = argument.partition("=")
    named = equals and "/" not in label and not Path(argument).exists()
    return (label, rest) if named else ("", argument)


def _run_name(path: str) -> str:
    """``demo`` for anything under runs/demo/version_N, else the last folder."""
    parts = [part for part in Path(path).parts if not part.startswith("scores.")] or [path]
    version = next(
        (place for place, part in enumerate(parts) if part.startswith("version_") and place),
        len(parts),
    )
    return parts[version - 1]


def find_scores(
    text: str | Path,
    split: str | None = None,
    runs: str | Path = "runs",
) -> Path:
    """The score table that ``text`` names: a file, its folder, a checkpoint that was scored, or a
    run or cross-validation, by folder or name, with a single one of the split."""
    path = Path(text).expanduser()
    checkpoint = path if path.suffix == ".ckpt" else None
    if path.is_file() and checkpoint is None:
        return path
    if (path / "scores.csv").is_file():
        return scores_file(path)
    validation = CrossValidation.find(text, runs)
    homes = run_versions(text, runs) if validation is None else [validation]
    for folder in (home.folder for home in homes):
        for wanted in [split] if split else ["test", "val"]:
            found = [
                file.parent
                for file in sorted(folder.glob(f"{wanted}-*/*/scores.csv"))
                if checkpoint is None or _is_of(file.parent, checkpoint)
            ]
            if len(found) > 1:
                names = ", ".join(str(each.relative_to(folder)) for each in found)
                raise InputError(
                    f"{folder} holds several score tables ({names}); give the folder of one."
                )
            if found:
                return scores_file(found[0])
    if validation is not None and validation.unfinished:
        scored = validation.scored()
        or_these = f", or give the folder of these scores, {scored[0]}" if scored else ""
        raise InputError(f"{text} is {validation.unfinished}{or_these}.")
    raise InputError(
        f"{text} holds no {split or 'test or val'} scores; run `lightning-seg test` on it first."
    )


def _is_of(folder: Path, checkpoint: Path) -> bool:
    """Tell whether the scores in a folder are of a checkpoint of its run."""
    return Path(find_summary(folder).checkpoint).name == checkpoint.name


def check_alike(runs: Sequence[ScoredModel]) -> None:
    """InputError unless the runs were scored on the same images, under the same protocol, at the same size."""
    first = runs[0]
    for run in runs[1:]:
        _check_folds(run, first)
        for key in ALIKE:
            here, there = getattr(run.summary, key), getattr(first.summary, key)
            if here and there and here != there:
                raise InputError(
                    f"{run.paths[0]} and {first.paths[0]} differ in {key} ({here!r} and {there!r}); "
                    "scores of unlike tests cannot be compared: test both alike, or give "
                    "compare --unpaired for two sets of images."
                )
        if (run.tables[0].ids, run.tables[0].classes) != (
            first.tables[0].ids,
            first.tables[0].classes,
        ):
            raise InputError(
                f"{run.paths[0]} and {first.paths[0]} hold other images or classes ({_extent(run)} and {_extent(first)}); "
                "compare runs over one split."
            )
        _check_pixels(run, first)
        if difference := content_difference(run.summary.data, first.summary.data):
            raise InputError(
                f"{run.paths[0]} and {first.paths[0]} were not scored on the same data: "
                f"{difference}; test both on one copy of the data."
            )


def _check_pixels(run: ScoredModel, other: ScoredModel) -> None:
    """InputError where an image has other numbers of pixels in two tables, which are then of
    unlike sizes whatever their summaries say; a table that lies alone has none."""
    ours, theirs = (each.tables[0].counts[:, 0].sum(-1) for each in (run, other))
    for place in np.flatnonzero(ours != theirs):
        raise InputError(
            f"{run.paths[0]} and {other.paths[0]} were not scored at the same size: they count "
            f"{ours[place]} and {theirs[place]} pixels of {run.tables[0].ids[place]}; test both at "
            "one size."
        )


def _check_folds(run: ScoredModel, other: ScoredModel) -> None:
    """InputError where of two cross-validations the folds differ, or one is none."""
    ours, theirs = run.summary, other.summary
    if not (ours.folds or theirs.folds) or not (ours.dataset and theirs.dataset):
        return
    if ours.protocol_digest != theirs.protocol_digest:
        raise InputError(
            f"{run.paths[0]} and {other.paths[0]} divide their images in unlike ways "
            f"({_division(ours)} and {_division(theirs)}), so their networks were trained on other "
            "images; compare cross-validations over the same folds."
        )


def _division(summary: Summary) -> str:
    tested = f", {summary.partial}" if summary.partial else ""
    return f"{summary.protocol} {summary.protocol_digest}{tested}"


def _extent(run: ScoredModel) -> str:
    return f"{count_text(len(run.tables[0].ids), 'image')} of {', '.join(run.tables[0].classes)}"
