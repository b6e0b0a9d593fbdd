"""`CrossValidation`: the folder of one cross-validation as a typed object, and the models of a run
or of all its folds."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.evaluation.pooling import pool_summaries, pool_tables
from lightning_seg.evaluation.scored_table import scores_file, table_digest
from lightning_seg.evaluation.summary import FILE as SUMMARY_FILE
from lightning_seg.evaluation.summary import Summary
from lightning_seg.evaluation.table import ScoreTable
from lightning_seg.evaluation.volumes import VOLUME_FILE, read_volume_rows, write_volume_rows
from lightning_seg.files import real_path, write_whole
from lightning_seg.files.documents import read_json
from lightning_seg.options import VALIDATED, shell_command
from lightning_seg.runs.chosen_threshold import CHOSEN_ON_VAL
from lightning_seg.runs.run import CROSS_VALIDATION_FILE, Run, find_checkpoint
from lightning_seg.runs.scored_weights import replaced_weights

SCHEMA = 1
POOLED, PARTIAL = "pooled", "partial-"


@dataclass(frozen=True)
class Fold:
    """One fold: the protocol by which it is trained and tested, and its digest."""

    protocol: str
    digest: str


@dataclass(frozen=True)
class CrossValidation:
    """The folder ``runs/<name>``, in which ``fold_1``, ``fold_2``, ... are runs.

    Attributes:
        folder: absolute.
        root: the folder of all runs.
        name: ``demo``, or ``group/demo``.
        protocol: the name of the division, such as ``5-fold``.
        folds: all of them, trained or not.
        untested: images of the data set that no fold tests.
        settings: what decides the trainings, dotted key -> value.
        command: the options of the `cv` that trains and tests all folds; none where that is not
            known.
    """

    folder: Path
    root: Path
    name: str
    protocol: str
    folds: tuple[Fold, ...]
    untested: int
    settings: Mapping[str, Any]
    command: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path, root: Path | None = None) -> "CrossValidation | None":
        """The cross-validation that a folder holds; None where it holds none.

        Raises:
            InputError: its file is damaged, or a newer version wrote it.
        """
        file = folder / CROSS_VALIDATION_FILE
        if not file.is_file():
            return None
        content = read_json(file)
        try:
            if content["schema"] > SCHEMA:
                raise InputError(
                    f"{file} was written by a newer version (schema {content['schema']}, known is "
                    f"{SCHEMA}); update lightning_seg."
                )
            folds = tuple(Fold(**each) for each in content["folds"])
            place = real_path(folder)
            base = place.parent if root is None else real_path(root)
            name = place.relative_to(base).as_posix()
            facts = str(content["protocol"]), folds, int(content["untested"])
            command = tuple(map(str, content.get("command", ())))
            return cls(place, base, name, *facts, dict(content["settings"]), command)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file} is damaged ({error}); run the same `cv` again.") from error

    @classmethod
    def find(cls, text: str | Path, runs: str | Path = "runs") -> "CrossValidation | None":
        """The cross-validation whose folder or name is meant; None where that is none."""
        place, root = Path(text).expanduser(), Path(runs).expanduser()
        return cls.open(place) or cls.open(root / text, root)

    def write(self) -> None:
        """Write ``cross_validation.json``, whole or not at all."""
        content = {
            "schema": SCHEMA,
            "protocol": self.protocol,
            "folds": [asdict(fold) for fold in self.folds],
            "untested": self.untested,
            "settings": self.settings,
            "command": self.command,
        }
        text = json.dumps(content, indent=1, default=str)
        write_whole(self.folder / CROSS_VALIDATION_FILE, text.encode())

    def run_name(self, place: int) -> str:
        """The name of a fold's run, ``demo/fold_1``; places count from 0."""
        return f"{self.name}/fold_{place + 1}"

    def run(self, place: int) -> Run | None:
        """The run of a fold; None where its training did not begin."""
        folder = self.folder / f"fold_{place + 1}"
        return Run.open(folder, self.root) if any(folder.glob("version_*")) else None

    @property
    def trained(self) -> list[Run]:
        """The folds whose training went to its end."""
        runs = [self.run(place) for place in range(len(self.folds))]
        return [run for run in runs if run is not None and run.ending.complete]

    def checkpoints(self) -> list[Path]:
        """The best checkpoint of each trained fold: an ensemble.

        Raises:
            InputError: no fold is trained.
        """
        found = [run.best.path for run in self.trained if run.best is not None]
        if not found:
            raise InputError(f"{self.folder} holds no trained fold; run its `lightning-seg cv`.")
        return found

    @property
    def lacking(self) -> int:
        """The number of folds without a trained network."""
        return len(self.folds) - len(self.checkpoints())

    @property
    def ensemble_text(self) -> str:
        """``an ensemble of 5 networks, the folds of runs/demo``, or PARTIAL where some lack."""
        count, planned = len(self.checkpoints()), len(self.folds)
        partial = f"PARTIAL, {count} of {planned} folds: " if self.lacking else ""
        return f"{partial}an ensemble of {count} networks, the folds of {self.folder}"

    def tests(self, place: int) -> dict[str, Path]:
        """The folders of scores of a fold's best checkpoint on its own test split, by how they were
        made: ``pooled-256``, ``tta=flips-pooled-256``, ``threshold=val-pooled-256``."""
        run = self.run(place)
        if run is None or not (run.ending.complete and run.best_stem):
            return {}
        found = {}
        for folder in run.score_folders("test"):
            before, best, after = folder.name.partition(run.best_stem)
            summary = Summary.read(folder)
            own = summary.protocol_digest == self.folds[place].digest and not summary.corruption
            if best and own and not replaced_weights(summary, folder):
                found[f"{_pooled_start(before, summary)}{POOLED}{after}"] = folder
        return found

    @property
    def unfinished(self) -> str:
        """``PARTIAL (2 of 5 folds are tested); finish it by ...``; empty where there is a result."""
        if any(not place.parent.name.startswith(PARTIAL) for place in self.scored()):
            return ""
        tests = Counter(chain(*map(self.tests, range(len(self.folds)))))
        tested = max(tests.values(), default=0)
        pooled = ", and not yet pooled" if tested == len(self.folds) else ""
        again = shell_command("lightning-seg", "cv", *self.command)
        by = f"`{again}`" if self.command else "the same `lightning-seg cv`"
        return (
            f"PARTIAL ({tested} of {len(self.folds)} folds are tested{pooled}); finish it by {by}"
        )

    def pool(self) -> dict[str, Path]:
        """Write the pooled scores of all folds that were tested, for each way in which they were;
        label -> folder.

        The folder of a way in which not all folds were tested begins with ``partial-``, as those
        of parts of a split do.
        """
        tests = [self.tests(place) for place in range(len(self.folds))]
        labels = dict.fromkeys(label for found in tests for label in found)
        return {label: self._pool_one(label, tests) for label in labels}

    def _pool_one(self, label: str, tests: list[dict[str, Path]]) -> Path:
        folders = [found[label] for found in tests if label in found]
        tables = [ScoreTable.read(scores_file(folder)) for folder in folders]
        summaries = [Summary.read(folder) for folder in folders]
        of_scans = all(summary.volumes is not None for summary in summaries)
        scans = sorted(chain(*map(read_volume_rows, folders if of_scans else ())))
        divided = self.protocol, len(self.folds), self.untested
        summary = pool_summaries(summaries, tables, *divided, scans)
        place = self.folder / f"test-{self.protocol}" / label
        partial = place.parent.with_name(f"{PARTIAL}{place.parent.name}") / label
        folder = partial if summary.partial else place
        pool_tables(tables).write(folder / "scores.csv")
        if scans:
            write_volume_rows(scans, folder)
        replace(summary, table_digest=table_digest(folder / "scores.csv")).write(folder)
        if not summary.partial:  # what it is in place of
            for name in (SUMMARY_FILE, "scores.csv", "scores.parquet", VOLUME_FILE):
                (partial / name).unlink(missing_ok=True)
            for emptied in (partial, partial.parent):
                with suppress(OSError):
                    emptied.rmdir()
        return folder

    def scored(self) -> list[Path]:
        """The folders of pooled scores, whole before partial ones, plain before others."""
        found = self.folder.glob(f"*test-*/*/{SUMMARY_FILE}")
        places = [file.parent for file in found if not file.parent.parent.name.startswith("fold_")]
        return sorted(
            places,
            key=lambda place: (
                place.parent.name.startswith(PARTIAL),
                not place.name.startswith(POOLED),
                place.name,
            ),
        )


def _pooled_start(label: str, summary: Summary) -> str:
    """The start of a folder's name, in which a threshold that each fold chose itself is ``val``."""
    if summary.threshold_from != CHOSEN_ON_VAL:
        return label
    return label.replace(f"threshold={summary.threshold:g}-", f"threshold={VALIDATED}-")


def find_checkpoints(
    text: str | Path,
    which: str = "best",
    *,
    name: str | None = None,
    runs: str | Path = "runs",
) -> list[Path]:
    """The checkpoint that `find_checkpoint` finds, or those of the folds of a cross-validation."""
    validation = CrossValidation.find(text, runs)
    if validation is not None:
        return validation.checkpoints()
    return [find_checkpoint(text, which, name=name, runs=runs)]
