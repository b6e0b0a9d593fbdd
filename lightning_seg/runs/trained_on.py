"""What a checkpoint says of the images that it was trained on, and whether a split holds any of
them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_seg.data.fingerprint import Fingerprint, decoders
from lightning_seg.data.store.cache import contents_of_ids
from lightning_seg.errors import InputError
from lightning_seg.tables import count_text

# data set -> the one whose images it holds, under the same ids
_SUBSETS = {"kvasir_sessile": "kvasir_seg"}
_IMAGE_OF = {"val": "validation image"}
# the options of data sets that decide what a mask says
_OF_MASKS = ("labels", "background", "ignore", "mask_threshold", "mask_suffix", "masks", "align")
# the settings of data that change what is learned or how it is judged, besides size and images
_OF_DATA = (
    "seed",
    "batch_size",
    "augment",
    "copies",
    "online",
    "crop",
    "crop_foreground",
    "crop_overlap",
    "sampling",
    "dataset_options",
)
# the options of data sets that decide what an image says
_OF_IMAGES = ("in_channels", "window")
_LOOKED_FOR = 3  # images of each split
_OF_STEPS = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")


@dataclass(frozen=True)
class TrainedOn:
    """The data of a training.

    Attributes:
        root: as it was given; empty where $LIGHTNING_SEG_DATA said it.
        names: ids of the images that trained.
        images: ``train`` and ``val`` -> digests of their images; None in checkpoints of version
            0.1.
        truths: ``train`` and ``val`` -> digests of each image with its masks; None in older
            checkpoints.
        decoders: the libraries that decoded them.
        size: side of the network's images, or ``native``; empty where it is not known.
        settings: further settings of its data and its steps.
        changes: what it was resumed with otherwise than it had begun, in words.
    """

    dataset: str
    root: str
    options: Mapping[str, Any]
    protocol: str
    protocol_digest: str
    names: frozenset[str]
    images: Mapping[str, frozenset[str]] | None
    decoders: str
    size: int | str = ""
    truths: Mapping[str, frozenset[str]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "TrainedOn":
        """Read it from the content of a checkpoint."""
        facts = content.get("lightning_seg", {})
        data = content.get("datamodule_hyper_parameters", {})
        images, truths = facts.get("images"), facts.get("truths")
        return cls(
            dataset=data.get("dataset", ""),
            root=data.get("root") or "",
            options=dict(data.get("dataset_options") or {}),
            protocol=facts.get("protocol", ""),
            protocol_digest=facts.get("protocol_digest", ""),
            names=frozenset(facts.get("trained_on", ())),
            images=images and {split: frozenset(each) for split, each in images.items()},
            decoders=facts.get("decoders", ""),
            size=(data["size"] or "native") if "size" in data else "",
            truths=truths and {split: frozenset(each) for split, each in truths.items()},
            settings=_settings(data, facts),
            changes=tuple(facts.get("changes", ())),
        )

    def is_home(self, data: Fingerprint) -> bool:
        """Tell whether these data are the data set, read in the same way from the same place."""
        ours = (self.dataset, self.root, dict(self.options))
        return ours == (data.dataset, data.root, dict(data.options))

    def check(self, data: Fingerprint, name: str) -> str:
        """Refuse to score images that were trained on.

        Args:
            data: the images of the split that is to be scored.
            name: of the checkpoint.

        Returns:
            What must be said of the scores; empty where there is nothing.

        Raises:
            InputError: images of the split were trained on, or chose the epoch.
        """
        if self.images is None:
            return self._check_names(data, name, "")
        seen = {split: self.seen(data, split) for split in ("train", "val")}
        if data.split == "val":
            # the epoch was chosen on these very images, which is what they are for
            del seen["val"]
        if any(seen.values()):
            if self.protocol_digest == data.protocol_digest:
                return self.repeated(data)
            raise InputError(self._refusal(data, name, seen))
        if self.decoders != data.decoders:
            return self._check_names(data, name, f" with {self.decoders}")
        return ""

    def repeated(self, data: Fingerprint) -> str:
        """The number of images of the training's own protocol that stand in it twice; empty where none
        does."""
        if self.images is None:
            return ""
        others = ("train", "val") if data.split == "test" else ("train",)
        count = len(set().union(*(self.seen(data, split) for split in others)))
        images = count_text(count, _IMAGE_OF.get(data.split, f"{data.split} image"))
        homes = "training or validation" if data.split == "test" else "training"
        return f"{images} also in {homes}, pixel for pixel" * bool(count)

    def read_otherwise(self, data: Fingerprint) -> str:
        """How the masks of the training's own data set are read, and were in training; empty where
        it is the same, or another data set."""
        if (self.dataset, self.root) != (data.dataset, data.root):
            return ""
        ours, theirs = dict(data.options), dict(self.options)
        names = [name for name in _OF_MASKS if ours.get(name) != theirs.get(name)]
        parts = [
            f"{name} is {_value(ours.get(name))} and was {_value(theirs.get(name))}"
            for name in names
        ]
        return ", ".join(parts)

    def other_images(self, data: Any) -> str:
        """Why the images of a data module are not those of the training's data set, in words, though
        its protocol and ids are; empty where they are, or where it cannot be known.

        The training has not seen the test split. A few of its training and validation images are
        looked for under their ids.
        """
        home = (
            self.protocol_digest == data.protocol_digest and self.dataset == data.hparams["dataset"]
        )
        options = data.hparams["dataset_options"] or {}
        alike = all(self.options.get(name) == options.get(name) for name in _OF_IMAGES)
        if self.images is None or not (home and alike) or self.decoders != decoders():
            return ""
        known = self.images["train"] | self.images["val"]
        chosen = [id for split in ("train", "val") for id in _spread(data.split.ids[split])]
        try:
            found = [content.image in known for content in contents_of_ids(data.source, chosen)]
        except InputError:
            return f"the images of protocol {data.protocol_name!r} that trained cannot be read here"
        if all(found):
            return ""
        place = data.hparams["root"] or "$LIGHTNING_SEG_DATA"
        return (
            f"{len(found) - sum(found)} of {len(found)} training and validation images looked for "
            f"in {place} are not those of the training, though their ids are: these are "
            "scores of another data set"
        )

    def seen(self, data: Fingerprint, split: str) -> set[str]:
        """The ids of images that stand in a split of the training too."""
        known = (self.images or {}).get(split, frozenset())
        return {id for id, image in data.images.items() if image in known}

    def _refusal(
        self,
        data: Fingerprint,
        name: str,
        seen: Mapping[str, set[str]],
    ) -> str:
        verbs = {"train": "were trained on by", "val": "chose the epoch of"}
        count = len(data.contents)
        counts = [
            f"{len(ids)} of the {count} {data.split} images of protocol {data.protocol!r} "
            f"{verbs[split]} {name}"
            for split, ids in seen.items()
            if ids
        ]
        first = min(set().union(*seen.values()))
        return (
            f"{', and '.join(counts)}, such as {first!r} (compared pixel by pixel, whatever their "
            f"names); score it under protocol {self.protocol!r}, or on other images."
        )

    def _check_names(self, data: Fingerprint, name: str, how: str) -> str:
        """The check of checkpoints whose images cannot be compared."""
        here, there = (_SUBSETS.get(each, each) for each in (data.dataset, self.dataset))
        known = self.names & data.contents.keys() if here == there else set()
        if known:
            raise InputError(
                f"{len(known)} of the {len(data.contents)} {data.split} images of protocol "
                f"{data.protocol!r} were trained on by {name}; "
                f"score it under protocol {self.protocol!r}."
            )
        if self.is_home(data) and self.protocol_digest == data.protocol_digest:
            return ""
        reason = f"decoded its images{how}" if how else "holds no digests of its images"
        return f"{name} {reason}: whether it was trained on these was checked by their names alone"


def steps_of(trainer: Any) -> dict[str, Any]:
    """The options that say what one step is, and by what the best epoch is chosen."""
    found = {f"trainer.{name}": getattr(trainer, name) for name in _OF_STEPS}
    roles = {getattr(each, "role", ""): each for each in trainer.checkpoint_callbacks}
    best: Any = roles.get("best")
    return found if best is None else found | {"checkpoint.monitor": best.monitor}


def repeated_in_validation(data: Any) -> str:
    """How many validation images train too, by their pixels, in words; empty where none does.

    Args:
        data: the data module of the training.
    """
    trained = set(data.fingerprint("train").images.values())
    judged = data.fingerprint("val").images.values()
    count = sum(image in trained for image in judged)
    images = count_text(len(judged), "validation image")
    return f"{count} of {images} also in training, pixel for pixel" * bool(count)


def _digests_of_truth(data: Fingerprint) -> set[str]:
    return {f"{content.image} {content.truth}" for content in data.contents.values()}


def _settings(data: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training by the names of its options, as far as they are known."""
    found = {f"data.{name}": data[name] for name in _OF_DATA if name in data}
    known = {"trainer.precision": facts["precision"]} if "precision" in facts else {}
    return found | facts.get("steps", {}) | known


def _changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What of the settings is another value now, where both say it."""
    changed = [
        f"{name} was {_value(before[name])} and is {_value(value)} now"
        for name, value in now.items()
        if name in before and (before[name] or None) != (value or None)
    ]
    if changed:
        yield f"{', '.join(changed)}: the run is no longer of one recipe"


def _changed_masks(data: Any, before: TrainedOn) -> Iterator[str]:
    """Images that the checkpoint knows with other masks."""
    if before.truths is None:
        return
    for split, name in (("train", "training"), ("val", "validation")):
        now = data.fingerprint(split)
        known = {pair.partition(" ")[0] for pair in before.truths[split]}
        pairs = _digests_of_truth(now) - before.truths[split]
        others = sum(pair.partition(" ")[0] in known for pair in pairs)
        if others:
            yield (
                f"the masks of {others} of {count_text(len(now.contents), f'{name} image')} are "
                "others than before, so scores before and after cannot be compared, nor can the "
                "best epoch be told by them"
            )


def changes_of(data: Any, before: TrainedOn | None) -> list[str]:
    """What a training was resumed with otherwise, now and before, in words.

    Args:
        data, before: as of `resumed_otherwise`.
    """
    known = [] if before is None else before.changes
    return list(dict.fromkeys([*known, *resumed_otherwise(data, before)]))


def changes_caution(changes: Sequence[str]) -> str:
    """The caution about a training that was resumed otherwise; empty where it was not."""
    return f"RESUMED OTHERWISE: {'; '.join(changes)}" * bool(changes)


def _spread(ids: Sequence[str]) -> list[str]:
    few = min(len(ids), _LOOKED_FOR)
    return [ids[place * len(ids) // few] for place in range(few)]


def _value(value: Any) -> str:
    return "not given" if value is None else str(value)


def training_facts(data: Any, before: TrainedOn | None = None) -> dict[str, Any]:
    """The part of a checkpoint about the images that trained and validated it.

    Args:
        data: the data module of the training.
        before: what the checkpoint holds that the training went on from, whose images count too.
    """
    prints = {split: data.fingerprint(split) for split in ("train", "val")}
    names = list(data.ids("train"))
    images = {split: set(each.images.values()) for split, each in prints.items()}
    truths = {split: _digests_of_truth(each) for split, each in prints.items()}
    if before is not None:
        names += sorted(before.names - set(names))
        for split, digests in (before.images or {}).items():
            images[split] |= digests
    return {
        "trained_on": names,
        "images": {split: sorted(digests) for split, digests in images.items()},
        "truths": {split: sorted(digests) for split, digests in truths.items()},
        "decoders": decoders(),
    }


def resumed_otherwise(data: Any, before: TrainedOn | None) -> Iterator[str]:
    """What must be said where a training goes on with other images, or at another size.

    Args:
        data: the data module of the training.
        before: what the checkpoint holds that the training goes on from.
    """
    if before is None:
        return
    facts = {"precision": str(data.trainer.precision), "steps": steps_of(data.trainer)}
    yield from _changed_settings(before.settings, _settings(data.hparams, facts))
    size = data.hparams["size"] or "native"
    if before.size not in ("", size):
        yield (
            f"data.size was {before.size} and is {size} now, so scores before and after cannot be "
            "compared, nor can the best epoch be told by them"
        )
    if before.images is None or before.decoders != decoders():
        return
    yield from _changed_masks(data, before)
    trained, judged = (set(data.fingerprint(split).images.values()) for split in ("train", "val"))
    new = len(trained - before.images["train"])
    if new:
        yield (
            f"the checkpoint was not trained on {new} of "
            f"{count_text(len(trained), 'training image')}, but on others; both count as trained "
            "on from here"
        )
    if judged != before.images["val"]:
        yield (
            "the validation images are others than those of before, so scores before and after "
            "cannot be compared, nor can the best epoch be told by them"
        )
    known = len(judged & before.images["train"])
    if known:
        yield (
            f"{known} of {count_text(len(judged), 'validation image')} were trained on before, so "
            "validation flatters"
        )
