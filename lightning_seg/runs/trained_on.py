"""What a checkpoint says of the images that it was trained on, and whether a split holds any of
them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_seg.data.fingerprint import Fingerprint, decoders
from lightning_seg.errors import InputError
from lightning_seg.tables import count_text

# data set -> the one whose images it holds, under the same ids
_SUBSETS = {"kvasir_sessile": "kvasir_seg"}


@dataclass(frozen=True)
class TrainedOn:
    """The data of a training.

    Attributes:
        root: as it was given; empty where $LIGHTNING_SEG_DATA said it.
        names: ids of the images that trained.
        images: ``train`` and ``val`` -> digests of their images; None in checkpoints of version
            0.1.
        decoders: the libraries that decoded them.
        size: side of the network's images, or ``native``; empty where it is not known.
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

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "TrainedOn":
        """Read it from the content of a checkpoint."""
        facts = content.get("lightning_seg", {})
        data = content.get("datamodule_hyper_parameters", {})
        images = facts.get("images")
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
        seen = {split: self._seen(data, split) for split in ("train", "val")}
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
        if self.images is None or data.split != "test":
            return ""
        count = len(self._seen(data, "train") | self._seen(data, "val"))
        images = count_text(count, f"{data.split} image")
        return f"{images} also in training or validation, pixel for pixel" * bool(count)

    def _seen(self, data: Fingerprint, split: str) -> set[str]:
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


def training_facts(data: Any, before: TrainedOn | None = None) -> dict[str, Any]:
    """The part of a checkpoint about the images that trained and validated it.

    Args:
        data: the data module of the training.
        before: what the checkpoint holds that the training went on from, whose images count too.
    """
    prints = {split: data.fingerprint(split) for split in ("train", "val")}
    names = list(data.ids("train"))
    images = {split: set(each.images.values()) for split, each in prints.items()}
    if before is not None:
        names += sorted(before.names - set(names))
        for split, digests in (before.images or {}).items():
            images[split] |= digests
    return {
        "trained_on": names,
        "images": {split: sorted(digests) for split, digests in images.items()},
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
    size = data.hparams["size"] or "native"
    if before.size not in ("", size):
        yield (
            f"data.size was {before.size} and is {size} now, so scores before and after cannot be "
            "compared, nor can the best epoch be told by them"
        )
    if before.images is None or before.decoders != decoders():
        return
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
