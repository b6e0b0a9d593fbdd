"""What a test or validation found, as it lies in ``summary.json`` beside its score table."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import nan
from pathlib import Path, PurePath
from statistics import mean, stdev
from typing import Any

from lightning_seg.data.split_sizes import FEW_UNITS, FEWEST_UNITS
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole

FILE = "summary.json"
FROM_FILES = "files-"  # how the folders of the scores of another tool's predictions begin
SCHEMA = 2  # 1: files without the key `schema`
_OWN_DATA = ("folder", "scans")  # kinds of data sets that hold anyone's files


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval; nan where it is undefined or not known."""

    value: float
    interval: tuple[float, float] = (nan, nan)


@dataclass(frozen=True)
class PartScore:
    """The score of some of the images: of small lesions, of several lesions.

    Attributes:
        rule: what they have in common, in words.
        column: of the data set's table, of which they share a value; empty for sizes and numbers.
        groups: of the images; 0 where an older version did not count them.
    """

    name: str
    rule: str
    images: int
    score: str
    value: float
    interval: tuple[float, float] = (nan, nan)
    column: str = ""
    groups: int = 0


@dataclass(frozen=True)
class EmptyImages:
    """The images without a class, and the share of them in which some of it was predicted (None
    without any)."""

    images: int
    false_positive_rate: float | None


@dataclass(frozen=True)
class VolumeSummary:
    """Means over whole scans.

    Attributes:
        incomplete: scans of which slices are missing.
        scores: class -> measure -> mean over scans.
    """

    scans: int
    incomplete: list[str]
    nsd_tolerance_mm: float
    scores: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class FoldScores:
    """The folds behind the pooled scores of a cross-validation.

    Attributes:
        protocols: of the folds that are tested, in their order.
        planned: how many folds there are.
        untested: images of the data set that no fold tests, since they lack a value.
        values: class -> score -> convention -> the score of each tested fold by itself.
    """

    protocols: list[str]
    planned: int
    untested: int
    values: Mapping[str, Mapping[str, Mapping[str, list[float]]]]

    def mean(self, name: str, score: str, convention: str) -> float:
        """The mean over the folds."""
        return mean(self.values[name][score][convention])

    def spread(self, name: str, score: str, convention: str) -> float:
        """The standard deviation over the folds; nan of one fold."""
        found = self.values[name][score][convention]
        return stdev(found) if len(found) > 1 else nan


Scores = Mapping[str, Mapping[str, Mapping[str, Estimate]]]  # class -> score -> convention
Numbers = Mapping[str, Mapping[str, float]]  # class -> name


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The facts of a scored split: on what, how, and what came out. A file may hold less: what it lacks has
    its default here.

    Attributes:
        weights: digest of the network in ``checkpoint``; empty where an older version wrote it.
        predictions: the folder of files that were scored, made by another tool; empty where this
            package's network made them.
        leaks: what leaks between the splits of the protocol, in words; empty where nothing is known
            to.
        groups_known: whether patients, sequences or duplicates are known and kept together.
        groups: the number of independent groups; ``resampled`` says what they are.
        size: side of the network's images in pixels, or ``native``.
        threshold_from: how the threshold was chosen, in words; empty where somebody gave it.
        inference: test-time augmentation, ensemble and post-processing, and a precision that is not
            float32.
        lost: how much truth has no pixel at the network's size, in words, so that an empty
            prediction of it scores 1; empty where all is there.
        read_otherwise: how masks were read that the training read in another way, in words.
        changed: how the training was resumed otherwise than it had begun, in words.
        other_images: why these are not images of the training's data set, though their ids are.
        partial: why these are not the scores of the whole split; empty where they are.
        corruption: how the images were made worse on purpose, in words; empty for images as they are.
        data: the fingerprint of the images that were scored.
        table_digest: of the score table's file; empty where an older version wrote it.
        looks: how often the test split had been scored by then, this time included.
        measures: class -> measure, the means over images of what is no overlap.
        maxima: class -> measure, the maximum over 256 thresholds.
        roc_auc: class -> ``all`` or ``fov``.
        strata: class -> the score by size and number of lesions, and by the columns of the table.
        unused_columns: those of the table that make no strata: one value, or too many texts.
        folds: of a cross-validation, whose scores are pooled over its folds; None for others.
    """

    checkpoint: str = ""
    weights: str = ""
    predictions: str = ""
    dataset: str = ""
    synthetic: bool = False
    protocol: str = ""
    protocol_digest: str = ""
    leaks: str = ""
    groups_known: bool = False
    split: str = ""
    images: int = 0
    groups: int = 0
    resampled: str = "images"
    size: int | str = ""
    scored_at: str = ""
    threshold: float = 0.5
    threshold_from: str = ""
    inference: Mapping[str, Any] = field(default_factory=dict)
    encoder_weights: Mapping[str, str] = field(default_factory=dict)
    lost: str = ""
    read_otherwise: str = ""
    changed: str = ""
    other_images: str = ""
    partial: str = ""
    corruption: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    table_digest: str = ""
    looks: int | None = None
    scores: Scores = field(default_factory=dict)
    measures: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    distance_unit: str = "pixels of the scored size"
    nsd_tolerance: float = 2.0
    maxima: Numbers = field(default_factory=dict)
    roc_auc: Numbers = field(default_factory=dict)
    strata: Mapping[str, list[PartScore]] = field(default_factory=dict)
    unused_columns: list[str] = field(default_factory=list)
    empty: Mapping[str, EmptyImages] = field(default_factory=dict)
    volumes: VolumeSummary | None = None
    folds: FoldScores | None = None

    @classmethod
    def read(cls, folder: Path) -> "Summary":
        """The summary in a folder of scores, of this version or an older one.

        Raises:
            InputError: there is none, it is damaged, or a newer version wrote it.
        """
        file = folder / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            schema = content.get("schema", 1)
            if schema <= SCHEMA:
                return cls(**_typed(content))
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({error.strerror}); test the run again."
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{file} is damaged ({error}); test the run again.") from error
        raise InputError(
            f"{file} was written by a newer version (schema {schema}, known are 1 to {SCHEMA}); "
            "update lightning_seg."
        )

    @property
    def scored_size(self) -> int | str:
        """``size`` where truth and prediction were scaled to it, else empty."""
        return "" if self.scored_at.startswith("native") else self.size

    @property
    def data_name(self) -> str:
        """The name of the data set; see `named_data`."""
        return named_data(self.dataset, str(self.data.get("root") or ""))

    @property
    def threshold_text(self) -> str:
        """``0.5``, or ``0.37 (chosen on the validation split)``."""
        return f"{self.threshold:.4g}" + (
            f" ({self.threshold_from})" if self.threshold_from else ""
        )

    def use(self) -> dict[str, str]:
        """How the network was used and scored, beside on what: the name of a choice -> it in words."""
        chosen_by_folds = bool(self.folds and self.threshold_from)
        return {
            "threshold": "of each fold" if chosen_by_folds else f"{self.threshold:g}",
            "size": str(self.size or "not known"),
            "test-time augmentation": self.inference.get("tta") or "none",
            "post-processing": self.inference.get("postprocess") or "none",
            "checkpoints together": str(max(1, len(self.inference.get("ensemble") or ()))),
            "precision": str(self.inference.get("precision") or 32),
            "corruption": self.corruption or "none",
            "distances": f"{self.distance_unit}, tolerance {self.nsd_tolerance:g}",
        }

    def cautions(self) -> Iterator[str]:
        """The notes that must stand above every table of these scores."""
        if self.partial:
            yield f"PARTIAL: {self.partial}; these are not the scores of the split"
        if self.corruption:
            yield f"CORRUPTED: {self.corruption}; these are not the scores of the images as they are"
        if self.folds and self.folds.untested:
            yield (
                f"{self.folds.untested} images of the data set lack a value and are tested in no "
                "fold"
            )
        if self.predictions:
            yield (
                f"SCORED FROM FILES ({self.predictions}): what made them, and on which images it "
                "was trained, is not known here"
            )
        if self.synthetic:
            yield "SYNTHETIC data, says nothing about clinical performance"
        if self.lost:
            yield (
                f"{self.lost}: such masks count as empty, and predicting nothing scores 1 there; "
                "raise data.size, or score with --score_at native"
            )
        if self.read_otherwise:
            yield f"masks are read otherwise than in training: {self.read_otherwise}"
        if self.other_images:
            yield f"OTHER IMAGES: {self.other_images}"
        if self.changed:
            yield self.changed
        if self.leaks:
            yield f"this protocol LEAKS: {self.leaks}"
        if not (self.groups_known or self.synthetic):
            yield (
                "no patients or sequences are known for these data: each image was split as if "
                "it stood for itself"
            )
        if 0 < self.groups < FEW_UNITS:
            images = self.groups == self.images
            units = ("image", "images") if images else ("group of images", "groups of images")
            few = f"only {self.groups} {units[self.groups > 1]}"
            if self.groups >= FEWEST_UNITS:
                yield f"{few}: scores and intervals over so few are rough guesses"
            else:
                yield (
                    f"{few}: scores over so few are rough guesses, and fewer than {FEWEST_UNITS} "
                    "have no interval (lightning-seg cv tests every image)"
                )

    @property
    def interval_words(self) -> str:
        """Over what the intervals are, or why there is none."""
        if 0 < self.groups < FEWEST_UNITS:
            return f"No intervals over {self.resampled}: fewer than {FEWEST_UNITS}"
        return f"95 % BCa bootstrap intervals over {self.resampled}"

    def write(self, folder: Path) -> None:
        """Write ``summary.json`` into the folder, whole or not at all."""
        content = {"schema": SCHEMA} | asdict(self)
        text = json.dumps(_without_nan(content), indent=1, allow_nan=False)
        write_whole(folder / FILE, text.encode())


def named_data(dataset: str, root: str) -> str:
    """The name of a data set for people: ``kvasir_seg``; of anyone's own folder or table, which all
    are of one kind, its name: ``clinic (folder)``."""
    if dataset not in _OWN_DATA or not root:
        return dataset
    place = PurePath(root)
    name = place.stem if place.suffix.lower() == ".csv" else place.name
    return f"{name} ({dataset})"


def find_summary(folder: Path) -> Summary:
    """The summary beside a score table; one that says nothing where the table lies alone."""
    return Summary.read(folder) if (folder / FILE).is_file() else Summary()


def _typed(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a summary, from any version of the file."""
    from lightning_seg.data.splits import LEAK, leak_of  # late: it loads torch

    known = {each.name for each in fields(Summary)}
    found = {key: value for key, value in content.items() if key in known}
    # files from before a leak was found say nothing of it
    declared = content.get("leaks") or leak_of(content.get("protocol_digest", ""))
    found["leaks"] = declared or (LEAK if content.get("protocol_leaks") else "")
    for key, read in _READERS.items():
        if found.get(key) is not None:
            found[key] = read(found[key])
    return found


def _estimate(found: Mapping[str, Any]) -> Estimate:
    return Estimate(_number(found["value"]), _interval(found))


def _interval(found: Mapping[str, Any]) -> tuple[float, float]:
    low, high = found.get("interval") or (None, None)
    return _number(low), _number(high)


def _number(value: float | None) -> float:
    return nan if value is None else float(value)


def _by_name(found: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: _estimate(each) for name, each in found.items()}


def _by_class(found: Mapping[str, Any]) -> dict[str, dict[str, Estimate]]:
    return {name: _by_name(each) for name, each in found.items()}


def _scores_by_class(
    found: Mapping[str, Any],
) -> dict[str, dict[str, dict[str, Estimate]]]:
    return {name: _by_class(each) for name, each in found.items()}


def _numbers(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip(each, map(_number, each.values()), strict=True))
        for name, each in found.items()
    }


def _part(found: dict[str, Any]) -> PartScore:
    return PartScore(**found | {"value": _number(found["value"]), "interval": _interval(found)})


def _parts_by_class(found: Mapping[str, Any]) -> dict[str, list[PartScore]]:
    return {name: list(map(_part, each)) for name, each in found.items()}


def _empty(found: Mapping[str, Any]) -> dict[str, EmptyImages]:
    return {name: EmptyImages(**each) for name, each in found.items()}


def _volume_summary(found: dict[str, Any]) -> VolumeSummary:
    return VolumeSummary(**found | {"scores": _by_class(found["scores"])})


def _fold_scores(found: dict[str, Any]) -> FoldScores:
    values = {name: _values_by_score(each) for name, each in found["values"].items()}
    return FoldScores(**found | {"values": values})


def _values_by_score(found: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    return {score: _values_by_convention(each) for score, each in found.items()}


def _values_by_convention(found: Mapping[str, Any]) -> dict[str, list[float]]:
    return {convention: list(map(_number, each)) for convention, each in found.items()}


_READERS: dict[str, Any] = {
    "scores": _scores_by_class,
    "measures": _by_class,
    "maxima": _numbers,
    "roc_auc": _numbers,
    "strata": _parts_by_class,
    "empty": _empty,
    "volumes": _volume_summary,
    "folds": _fold_scores,
}


def _without_nan(value: Any) -> Any:
    """The same content with None for nan and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
