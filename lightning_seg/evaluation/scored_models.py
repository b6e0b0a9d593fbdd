"""The score tables and facts of runs that a command line names."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.fingerprint import content_difference
from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import Summary, find_summary
from lightning_seg.evaluation.table import ScoreTable

ALIKE = (
    "dataset",
    "protocol_digest",
    "split",
    "size",
    "scored_at",
)  # what scores must share to be compared


class ScoredModel(NamedTuple):
    """One model: a score table per seed, and what its summary says of them."""

    name: str
    paths: list[Path]
    tables: list[ScoreTable]
    summary: Summary  # one that says nothing where a table lies alone


def read_runs(
    arguments: Sequence[str],
    split: str | None = None,
) -> list[ScoredModel]:
    """Each argument is ``[name=]path[,path ...]``: run folders or score tables, of which commas
    join the seeds of one model."""
    runs = []
    for argument in arguments:
        label, rest = _split_label(argument)
        paths = [find_scores(Path(part), split) for part in rest.split(",") if part]
        if not paths:
            raise InputError(
                f"{argument!r} names no run; give a folder such as runs/demo, or a scores.csv."
            )
        found = [
            ScoredModel(label, [path], [ScoreTable.read(path)], find_summary(path.parent))
            for path in paths
        ]
        check_alike(found)
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


def _split_label(argument: str) -> tuple[str, str]:
    """The name and the rest of ``name=path,path``; no name where there is none (the folders of
    scores have = in theirs)."""
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


def find_scores(path: Path, split: str | None = None) -> Path:
    """The score table that ``path`` names: a file, its folder, or a run with a single one of the
    split."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(
            f"there is no run {str(path)!r}; give a run folder such as runs/demo, or a scores.csv."
        )
    if (path / "scores.csv").is_file():
        return scores_file(path)
    numbered = [
        each for each in path.glob("version_*") if each.name.removeprefix("version_").isdecimal()
    ]
    versions = sorted(
        numbered, key=lambda each: int(each.name.removeprefix("version_")), reverse=True
    )
    for folder in versions or [path]:
        for wanted in [split] if split else ["test", "val"]:
            found = sorted(folder.glob(f"{wanted}-*/*/scores.csv"))
            if len(found) > 1:
                names = ", ".join(str(each.parent.relative_to(folder)) for each in found)
                raise InputError(
                    f"{folder} holds several score tables ({names}); give the folder of one."
                )
            if found:
                return scores_file(found[0].parent)
    raise InputError(
        f"{path} holds no {split or 'test or val'} scores; run `lightning-seg test` on it first."
    )


def scores_file(folder: Path) -> Path:
    """The table in a folder of scores: the Parquet file, which also holds the sums of calibration,
    where it is there."""
    parquet = folder / "scores.parquet"
    return parquet if parquet.is_file() else folder / "scores.csv"


def check_alike(runs: Sequence[ScoredModel]) -> None:
    """InputError unless the runs were scored on the same images, under the same protocol, at the
    same size."""
    first = runs[0]
    for run in runs[1:]:
        for key in ALIKE:
            here, there = getattr(run.summary, key), getattr(first.summary, key)
            if here and there and here != there:
                raise InputError(
                    f"{run.paths[0]} and {first.paths[0]} differ in {key} ({here!r} and {there!r}); "
                    "scores of unlike tests cannot be compared: test both alike."
                )
        if (run.tables[0].ids, run.tables[0].classes) != (
            first.tables[0].ids,
            first.tables[0].classes,
        ):
            raise InputError(
                f"{run.paths[0]} and {first.paths[0]} hold other images or classes ({_extent(run)} and {_extent(first)}); "
                "compare runs over one split."
            )
        if difference := content_difference(run.summary.data, first.summary.data):
            raise InputError(
                f"{run.paths[0]} and {first.paths[0]} were not scored on the same data: "
                f"{difference}; test both on one copy of the data."
            )


def _extent(run: ScoredModel) -> str:
    return f"{len(run.tables[0].ids)} images of {', '.join(run.tables[0].classes)}"
