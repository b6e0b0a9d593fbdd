"""The score tables and facts of runs that a command line names."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.fingerprint import content_difference
from lightning_seg.errors import InputError
from lightning_seg.evaluation.scored_table import check_summary
from lightning_seg.evaluation.summary import Summary, find_summary
from lightning_seg.evaluation.table import ScoreTable
from lightning_seg.runs.run import run_versions
from lightning_seg.tables import count_text

# what scores must share to be compared
ALIKE = ("dataset", "protocol_digest", "split", "scored_at", "scored_size")


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


def _read_scored(label: str, path: Path) -> ScoredModel:
    summary = find_summary(path.parent)
    # a table that lies alone has no summary
    if summary.dataset and (path.parent / "scores.csv").is_file():
        check_summary(summary, path.parent)
    return ScoredModel(label, [path], [ScoreTable.read(path)], summary)


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
    run, by folder or name, with a single one of the split."""
    path = Path(text).expanduser()
    checkpoint = path if path.suffix == ".ckpt" else None
    if path.is_file() and checkpoint is None:
        return path
    if (path / "scores.csv").is_file():
        return scores_file(path)
    folders = [run.folder for run in run_versions(text, runs)]
    for folder in folders:
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
    raise InputError(
        f"{text} holds no {split or 'test or val'} scores; run `lightning-seg test` on it first."
    )


def _is_of(folder: Path, checkpoint: Path) -> bool:
    """Tell whether the scores in a folder are of a checkpoint of its run."""
    return Path(find_summary(folder).checkpoint).name == checkpoint.name


def scores_file(folder: Path) -> Path:
    """The table in a folder of scores: the Parquet file, which also holds the sums of calibration, where it is there."""
    parquet = folder / "scores.parquet"
    return parquet if parquet.is_file() else folder / "scores.csv"


def check_alike(runs: Sequence[ScoredModel]) -> None:
    """InputError unless the runs were scored on the same images, under the same protocol, at the same size."""
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
    return f"{count_text(len(run.tables[0].ids), 'image')} of {', '.join(run.tables[0].classes)}"
