"""`Run`: one run's folder as a typed object, and the one way to name a model."""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lightning_seg.errors import InputError
from lightning_seg.files import real_path
from lightning_seg.files.documents import read_yaml
from lightning_seg.runs.checkpoints import SavedModel, saved_models
from lightning_seg.runs.environment import FILE, read_environment
from lightning_seg.tables import count_text

CHECKPOINT_FOLDER, CONFIG_FILE = "checkpoints", "config.yaml"
CROSS_VALIDATION_FILE = "cross_validation.json"  # of a folder that holds a run for each fold
_MOST_BYTES = 200  # of one folder's name; file systems take 255
_LIMITS = ("limit_train_batches", "limit_val_batches", "overfit_batches")  # of the trainer
_VERSION = re.compile(r"version_(\d+)")


@dataclass(frozen=True)
class Ending:
    """The end of the training of a run.

    Attributes:
        status: ``complete`` (all epochs, or stopped by its own rule), ``interrupted`` (Ctrl-C or
            SIGTERM), ``failed`` (an error), ``running`` (or killed) or ``unknown`` (a run of
            version 0.1).
        epochs_planned: None where the number of steps is what was planned.
        epochs_done: whole epochs.
    """

    status: str
    epochs_planned: int | None
    epochs_done: int

    @property
    def complete(self) -> bool:
        return self.status == "complete"

    @property
    def caution(self) -> str:
        """What must be said of a training that did not run its course; empty for others."""
        if self.status in ("complete", "unknown"):
            return ""
        return f"INTERRUPTED: the training did not run its course ({self.text})"

    @property
    def text(self) -> str:
        """``complete, 20 epochs``, ``interrupted after 3 of 20 epochs``."""
        done, planned = self.epochs_done, self.epochs_planned
        if self.complete and planned in (None, done):
            return f"complete, {count_text(done, 'epoch')}"
        of = f" of {planned}" if planned is not None else ""
        word = {"complete": "stopped early", "running": "running or killed"}
        return f"{word.get(self.status, self.status)} after {done}{of} epochs"


@dataclass(frozen=True)
class Run:
    """The folder of one run, ``runs/<name>/version_N``.

    Attributes:
        folder: absolute.
        root: the folder of all runs; the ledger of looks lies there.
        name: ``demo``, or ``group/demo``.
    """

    folder: Path
    root: Path
    name: str

    @classmethod
    def open(cls, path: str | Path, root: str | Path | None = None) -> "Run":
        """The run that a folder is, or the newest one with a checkpoint that lies in it.

        Args:
            path: ``runs/demo/version_0`` or ``runs/demo``.
            root: the folder of all runs, where that is known.

        Errors: InputError where there is none.
        """
        place = real_path(path)
        versions = _versions(place)
        if not versions and not _is_run(place):
            raise InputError(
                f"there is no run {str(path)!r}; "
                "give a folder such as runs/demo or runs/demo/version_0."
            )
        trained = (
            folder for folder in versions if any((folder / CHECKPOINT_FOLDER).glob("*.ckpt"))
        )
        folder = next(trained, versions[0] if versions else place)
        return cls(folder, *_home(folder, root))

    @classmethod
    def holding(cls, checkpoint: str | Path, root: str | Path | None = None) -> "Run | None":
        """The run in whose folder a checkpoint lies; None for a file that lies elsewhere."""
        folder = real_path(checkpoint).parent
        if folder.name != CHECKPOINT_FOLDER:
            return None
        return cls(folder.parent, *_home(folder.parent, root))

    @classmethod
    def holding_scores(cls, table: str | Path) -> "Run | None":
        """The run in whose folder a score table lies; None for one that lies elsewhere."""
        places = real_path(table).parents
        folder = places[2] if len(places) > 2 else None
        if folder is None or not _is_run(folder):
            return None
        return cls(folder, *_home(folder, None))

    @property
    def shown(self) -> str:
        """The shortest path from here that means this run: ``runs/demo``, or with its version where
        a newer one has a checkpoint."""
        place = self.root / self.name
        whole = place if Run.open(place, self.root).folder == self.folder else self.folder
        return os.path.relpath(whole) if whole.is_relative_to(Path.cwd()) else str(whole)

    @property
    def version(self) -> str:
        """``version_0``; empty for a folder that was renamed to something else."""
        return self.folder.name if _VERSION.fullmatch(self.folder.name) else ""

    @property
    def checkpoint_folder(self) -> Path:
        return self.folder / CHECKPOINT_FOLDER

    @property
    def config_file(self) -> Path:
        """The configuration with which the run was started, all defaults filled in."""
        return self.folder / CONFIG_FILE

    @property
    def config(self) -> dict[str, Any]:
        """The content of its ``config.yaml``; empty where there is none."""
        if not self.config_file.is_file():
            return {}
        content = read_yaml(self.config_file) or {}
        if not isinstance(content, dict):
            raise InputError(f"{self.config_file} holds no keys such as data:; restore the file.")
        return content

    @property
    def environment(self) -> dict[str, Any]:
        """``command``, ``sittings`` and ``ending``; empty for a run that kept none."""
        return read_environment(self.folder)

    @property
    def sittings(self) -> list[dict[str, Any]]:
        """Commit, hardware, precision and minutes of each call of `fit`, in order."""
        return self.environment.get("sittings", [])

    @property
    def ending(self) -> Ending:
        kept = self.environment
        if "ending" in kept:
            return Ending(**kept["ending"])
        planned = (self.config.get("trainer") or {}).get("max_epochs")
        done = max((sitting.get("epochs", 0) for sitting in kept.get("sittings", [])), default=0)
        return Ending("complete" if planned and done >= planned else "unknown", planned, done)

    @property
    def left_out(self) -> str:
        """The options by which each epoch used a part of the images; empty where it used all."""
        given = self.config.get("trainer") or {}
        known = {name: given.get(name) for name in _LIMITS}
        # 1 is one batch, 1.0 are all
        asked = [
            f"{name} {value}"
            for name, value in known.items()
            if value and not (isinstance(value, float) and value == 1.0)
        ]
        return ", ".join(asked)

    @property
    def cautions(self) -> list[str]:
        """What must be said of its training: an early end, images that it left out."""
        partial = f"PARTIAL TRAINING: each epoch used a part of the images ({self.left_out})"
        return [*filter(None, [self.ending.caution]), *([partial] if self.left_out else [])]

    @property
    def checkpoints(self) -> list[SavedModel]:
        """All checkpoint files, oldest first, those of abandoned branches too."""
        return saved_models(self.checkpoint_folder)

    @property
    def living(self) -> list[SavedModel]:
        """The checkpoints of the branch that was trained last.

        A run that was resumed from an earlier epoch than its last one has two branches.
        """
        known = self.checkpoints
        return [saved for saved in known if saved.leads_to(known[-1].lineage)]

    @property
    def last(self) -> SavedModel | None:
        """The checkpoint from which training goes on; None where no epoch was finished."""
        living = self.living
        return living[-1] if living else None

    @property
    def best(self) -> SavedModel | None:
        """The checkpoint with the best validation score; None where it is not there."""
        living = self.living
        if not living:
            return None
        newest = living[-1]
        for saved in living:
            if saved.role == "best" and saved.value == newest.best_value:
                return saved
        return next((saved for saved in living if saved.path.name == newest.best_name), None)

    @property
    def best_stem(self) -> str:
        """The name of the best checkpoint, also of one that was deleted; empty where none says
        it."""
        if self.best is not None:
            return self.best.path.stem
        return Path(self.last.best_name).stem if self.last is not None else ""

    def checkpoint(self, which: str) -> SavedModel | None:
        """The ``best`` or the ``last``."""
        return self.best if which == "best" else self.last

    def score_folders(self, split: str) -> list[Path]:
        """The folders that `test` (split ``test``) or `validate` (``val``) left, by name."""
        return sorted(file.parent for file in self.folder.glob(f"{split}-*/*/summary.json"))


def find_checkpoint(
    text: str | Path,
    which: str = "best",
    *,
    name: str | None = None,
    runs: str | Path = "runs",
) -> Path:
    """The checkpoint file that a user means.

    Args:
        text: a .ckpt file; the folder of a run or of one of its versions; the name of a run; or
            ``best`` or ``last`` of the run that ``name`` says.
        which: ``best`` or ``last``, where ``text`` is a run.
        name: of a run, as ``--name`` or a recipe gives it.
        runs: the folder of all runs.

    Errors: InputError where there is none.
    """
    root = Path(runs).expanduser()
    if str(text) in ("best", "last"):
        if name is None:
            raise InputError(
                f"--ckpt_path {text} needs -c <recipe> or --name <run> to know of which run."
            )
        return _of_run(root / name, root, str(text))
    place = Path(text).expanduser()
    if place.is_file():
        return place
    if _versions(place) or _is_run(place):
        return _of_run(place, None, which)
    if _versions(root / text) or _is_run(root / text):
        return _of_run(root / text, root, which)
    for folder in (place, root / text):
        if (folder / CROSS_VALIDATION_FILE).is_file():
            raise InputError(
                f"{str(text)!r} is a cross-validation, whose folds are an ensemble for predict, "
                f"serve and export onnx or program; give one of them, such as {text}/fold_1."
            )
    raise _nothing_named(text, root, ", or `best` or `last` with -c <recipe> or --name <run>")


def find_run(text: str | Path, runs: str | Path = "runs") -> Run:
    """The run that a folder, a name or one of its checkpoints means.

    Errors: InputError where there is none.
    """
    place, root = Path(text).expanduser(), Path(runs).expanduser()
    held = Run.holding(place) if place.is_file() else None
    if held is not None:
        return held
    if _versions(place) or _is_run(place):
        return Run.open(place)
    if _versions(root / text) or _is_run(root / text):
        return Run.open(root / text, root)
    raise _nothing_named(text, root)


def run_versions(text: str | Path, runs: str | Path = "runs") -> list[Run]:
    """All versions of the run that ``text`` means, newest first; one where it names a version."""
    run, place = find_run(text, runs), Path(text).expanduser()
    if place.is_file() or not run.version or real_path(place) == run.folder:
        return [run]
    named = _versions(Path(runs).expanduser() / text)
    if not named and not _versions(place):  # the name of one version, such as demo/version_0
        return [run]
    return [Run(folder, run.root, run.name) for folder in _versions(run.folder.parent)]


def _nothing_named(text: str | Path, root: Path, more: str = "") -> InputError:
    return InputError(
        f"there is no checkpoint or run {str(text)!r}; give a .ckpt file, the folder of a run, "
        f"{'' if more else 'or '}the name of a run in {str(root)!r}{more}."
    )


def _of_run(place: Path, root: Path | None, which: str) -> Path:
    found = None
    if _versions(place) or _is_run(place):
        found = Run.open(place, root).checkpoint(which)
    if found is None:
        raise InputError(
            f"there is no {which!r} checkpoint in {real_path(place)}; "
            "train it first, or give the path of a .ckpt file."
        )
    return found.path


def new_run(root: Path, name: str) -> Run:
    """The next free ``root/name/version_N``; its folder is not made.

    Errors: InputError for a name that leaves the folder of all runs, or is that of a version.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise InputError(
            f"name is {name!r}; give a name inside the folder of all runs, such as group/run."
        )
    long = next((part for part in parts if len(part.encode()) > _MOST_BYTES), None)
    if long is not None or not name.isprintable():
        raise InputError(
            f"name is {name[:60]!r}, with {len(name)} letters; give one of at most {_MOST_BYTES} "
            "that can be printed."
        )
    if any(_VERSION.fullmatch(part) for part in parts):
        raise InputError(
            f"name is {name!r}, but version_N numbers the versions of a run; give another name."
        )
    root = real_path(root)
    taken = [int(folder.name.removeprefix("version_")) for folder in _versions(root / name)]
    return Run(root / name / f"version_{max(taken, default=-1) + 1}", root, name)


def _versions(place: Path) -> list[Path]:
    """The folders ``version_N`` of a run, newest first."""
    found = {}
    for folder in place.glob("version_*") if place.is_dir() else ():
        match = _VERSION.fullmatch(folder.name)
        if match and folder.is_dir():
            found[int(match.group(1))] = folder
    return [found[number] for number in sorted(found, reverse=True)]


def _is_run(folder: Path) -> bool:
    """Tell whether a folder, whatever its name, holds what a run leaves."""
    marks = (CHECKPOINT_FOLDER, CONFIG_FILE, FILE)
    named = _VERSION.fullmatch(folder.name) and folder.is_dir()
    return bool(named) or any((folder / mark).exists() for mark in marks)


def _home(folder: Path, root: str | Path | None) -> tuple[Path, str]:
    """Root and name of a run: as the caller knows them, as it recorded them, or its parent's
    name."""
    place = folder.parent if _VERSION.fullmatch(folder.name) else folder
    if root is not None:
        base = real_path(root)
        if base in place.parents:
            return base, place.relative_to(base).as_posix()
    parts = PurePosixPath(read_environment(folder).get("name", "")).parts or (place.name,)
    if place.parts[-len(parts) :] != parts:  # it was copied or renamed
        parts = (place.name,)
    return Path(*place.parts[: -len(parts)]), "/".join(parts)
