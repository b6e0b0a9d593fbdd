"""A data set written out: images at the network's size, and of the training split alone its
augmented copies, as PNG.

The folder is one for the data set ``folder``: ``images/``, ``masks/``, ``table.csv`` (which copies
belong to one group), ``protocol.csv`` (which id belongs to which split) and ``data.yaml``, the
lines of a recipe that read it. ``manifest.json`` holds what it was made from. Copies are bit by bit
those of ``copies: N, online: false``.
"""

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from lightning_seg.data.augment.pipeline import Augmentation, transforms_of
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.data.dataset import SegmentationDataset
from lightning_seg.data.splits import SPLITS, protocol_text
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole
from lightning_seg.files.leftovers import remove_leftovers

MANIFEST = "manifest.json"
_LIBRARIES = ("lightning_seg", "albumentations", "opencv-python-headless", "pillow", "numpy")
_AHEAD = 64  # samples in memory
_MOST_CLASSES = 8  # bits of a label picture


class Entry(NamedTuple):
    """One image to write: ``copy`` 0 is the image itself."""

    name: str
    id: str
    copy: int
    split: str


def prepare(
    data: dict[str, Any],
    copies: int,
    output: Path,
) -> dict[str, Any]:
    """Write the data set into ``output``, or what is missing of it; returns the manifest.

    Args:
        data: the arguments of `SegmentationDataModule`; ``augment`` is the pipeline of the copies.
        copies: of each training image, itself among them.

    Errors: InputError where the folder holds anything else, or was made with other settings, or
    cannot be written.
    """
    module = SegmentationDataModule(**data, copies=copies, online=False)
    _check_module(module)
    entries = list(_entries(module, copies))
    manifest = _manifest(module, copies, len(entries))
    found = _open_manifest(output, manifest)
    if found.get("complete"):
        return found
    for split in SPLITS:
        _write_split(module, [entry for entry in entries if entry.split == split], copies, output)
    for name, text in _tables(module, entries, copies, output).items():
        write_whole(output / name, text.encode())
    manifest |= {"complete": True, "files_digest": _files_digest(output, entries)}
    write_whole(output / MANIFEST, _json(manifest))
    return manifest


def _check_module(module: SegmentationDataModule) -> None:
    if module.crops is not None:
        raise InputError(
            "crops are drawn anew in each epoch of training, and no folder holds them; leave out "
            "data.crop, or train on the data directly."
        )
    if module.in_channels not in (1, 3):
        raise InputError(
            f"the images have {module.in_channels} channels, and PNG holds 1 or 3; train on them directly."
        )
    if len(module.classes) > _MOST_CLASSES:
        raise InputError(
            f"the data has {len(module.classes)} classes, and a label picture holds {_MOST_CLASSES}."
        )


def _entries(module: SegmentationDataModule, copies: int) -> Iterator[Entry]:
    taken: set[str] = set()
    choose = getattr(module.source, "training_ids", tuple)
    for split in SPLITS:
        ids = dict.fromkeys(choose(module.ids(split)) if split == "train" else module.ids(split))
        for copy in range(copies if split == "train" else 1):
            for id in ids:
                stem = id.replace("/", "_")
                name = f"{stem}_copy{copy}" if copy else stem
                if name in taken:
                    raise InputError(
                        f"two images would be written as {name!r}; rename the image {id!r}."
                    )
                taken.add(name)
                yield Entry(name, id, copy, split)


def _manifest(
    module: SegmentationDataModule,
    copies: int,
    count: int,
) -> dict[str, Any]:
    settings = {
        name: module.hparams[name]
        for name in ("dataset", "root", "size", "augment", "seed", "dataset_options")
    }
    return {
        "settings": settings
        | {"copies": copies, "transforms": transforms_of(module.hparams["augment"])},
        "protocol": {
            "name": module.protocol_name,
            "digest": module.protocol_digest,
            "leaks": module.leaks,
        },
        "images": count,
        "regions_left_out": module.regions,
        "versions": {"python": sys.version.split()[0]}
        | {name: version(name) for name in _LIBRARIES},
        "complete": False,
    }


def _open_manifest(
    output: Path,
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of the folder, which is new, empty, or was begun with the same settings."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; give a folder.")
    path = output / MANIFEST
    if not path.exists():
        if output.is_dir():
            remove_leftovers(output)  # one that was killed with its first file half written
        if output.exists() and any(output.iterdir()):
            raise InputError(f"{output} holds other files; give an empty or a new folder.")
        write_whole(path, _json(manifest))
        return dict(manifest)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        differing = [
            key
            for key in ("settings", "protocol", "images", "versions")
            if found[key] != _plain_value(manifest)[key]
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no manifest of prepared data ({error}); give an empty or a new folder."
        ) from error
    if differing:
        raise InputError(
            f"{output} was prepared with other {' and '.join(differing)}; give an empty or a new folder."
        )
    return found


def _plain_value(value: Any) -> Any:
    return json.loads(_json(value))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode()


def _write_split(
    module: SegmentationDataModule, entries: Sequence[Entry], copies: int, output: Path
) -> None:
    places = {id: place for place, id in enumerate(dict.fromkeys(entry.id for entry in entries))}
    ids, side = list(places), module.hparams["size"]
    augmentation = Augmentation(transforms_of(module.hparams["augment"]), module.hparams["seed"])
    missing = [
        entry for entry in entries if not all(path.exists() for path in _paths(output, entry))
    ]
    wanted = sorted({places[entry.id] for entry in missing})
    for start in range(0, len(wanted), _AHEAD):
        chunk = [ids[place] for place in wanted[start : start + _AHEAD]]
        size = None if side is None else (side, side)
        data = SegmentationDataset(module.source, chunk, size, augmentation, copies, online=False)
        for entry in missing:
            if entry.id in chunk:
                _write_sample(data[entry.copy * len(chunk) + chunk.index(entry.id)], entry, output)


def _paths(output: Path, entry: Entry) -> tuple[Path, Path]:
    return output / "images" / f"{entry.name}.png", output / "masks" / f"{entry.name}.png"


def _write_sample(
    item: Mapping[str, Any],
    entry: Entry,
    output: Path,
) -> None:
    image = item["image"].numpy().transpose(1, 2, 0)
    masks = item["mask"].numpy()
    bits = (
        (masks << np.arange(len(masks), dtype=np.uint8)[:, None, None]).sum(axis=0).astype(np.uint8)
    )
    pictures = image[..., ::-1], bits if len(masks) > 1 else bits * 255
    for path, picture in zip(_paths(output, entry), pictures, strict=True):
        write_whole(path, cv2.imencode(".png", picture)[1].tobytes())


def labels(classes: int) -> list[list[int]]:
    """The numbers in a label picture that hold a class's bit, for each class."""
    return [[value for value in range(1, 1 << classes) if value >> k & 1] for k in range(classes)]


def _tables(
    module: SegmentationDataModule, entries: Sequence[Entry], copies: int, output: Path
) -> dict[str, str]:
    name = f"{module.protocol_name}-x{copies}"
    rule = (
        f"{module.protocol_name} ({module.protocol_digest}) with {copies} copies of each training image, "
        f"augmented after splitting: {MANIFEST}"
    )
    ids = {split: [entry.name for entry in entries if entry.split == split] for split in SPLITS}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("id", "image", "mask", "group", "split"))
    for entry in entries:
        image, mask = (path.relative_to(output).as_posix() for path in _paths(Path(output), entry))
        writer.writerow(
            (entry.name, image, mask, module.source.groups.get(entry.id, entry.id), entry.split)
        )
    return {
        "table.csv": table.getvalue(),
        "protocol.csv": protocol_text(name, 1, rule, ids, module.leaks),
        "data.yaml": yaml.safe_dump(
            {"data": _prepared_recipe(module, output)}, sort_keys=False, allow_unicode=True
        ),
    }


def _prepared_recipe(module: SegmentationDataModule, output: Path) -> dict[str, Any]:
    options: dict[str, Any] = {"classes": list(module.classes)}
    if module.in_channels != 3:
        options["in_channels"] = module.in_channels
    if len(module.classes) > 1:
        options["labels"] = labels(len(module.classes))
    folder = Path(os.path.abspath(output))
    return {
        "dataset": "folder",
        "root": str(folder / "table.csv"),
        "protocol": str(folder / "protocol.csv"),
        "size": module.hparams["size"],
        "augment": "none",
        "dataset_options": options,
    }


def _files_digest(output: Path, entries: Sequence[Entry]) -> str:
    """sha256 over the sorted lines ``<path> <sha256 of the file>`` of all images and masks."""
    paths = sorted(path for entry in entries for path in _paths(output, entry))
    lines = (
        f"{path.relative_to(output).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in paths
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
