"""The LightningDataModule over every data set: names in, batches of uint8 out."""

import inspect
import signal
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader

from lightning_seg.data.augment.corruptions import CorruptingAugmentation, Corruption
from lightning_seg.data.augment.on_device import DeviceAugmentation
from lightning_seg.data.augment.pipeline import Augmentation, transforms_of
from lightning_seg.data.cores import usable_cores
from lightning_seg.data.crops import CropDataset, Crops, WholeDataset, collate_pictures
from lightning_seg.data.dataset import EpochSampler, SegmentationDataset, collate
from lightning_seg.data.fingerprint import Content, Fingerprint
from lightning_seg.data.mask_shares import covering_doubt
from lightning_seg.data.reading.pictures import MOST_SIDE
from lightning_seg.data.rules import Rule, resolve
from lightning_seg.data.sampling import sampling_weights
from lightning_seg.data.sliding import OVERLAP
from lightning_seg.data.sources.base import DATASETS, Source, channel_meaning, source_class
from lightning_seg.data.splits import Split, check
from lightning_seg.data.store.cache import Cache
from lightning_seg.errors import InputError, unknown
from lightning_seg.files import real_path
from lightning_seg.files.alike_names import alike_ids
from lightning_seg.tables import count_text

__all__ = ["DATASETS", "SegmentationDataModule"]

_STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
_FEW_COVERING = 0.05  # share of the training masks
_MOST_WORKERS = 512  # processes of each loader
_NO_WORKERS = "data.num_workers is 0: the GPU waits while each batch is read; give 1 or more, or leave it out."


class SegmentationDataModule(LightningDataModule):
    """A data set under a protocol.

    Batches: image (B, C, H, W) uint8, mask (B, K, H, W) uint8 in {0, 1}, index (B,) position in the
    split, id: list; where the data set has regions, region (B, 1, H, W) uint8: 0 ignored, 1 counted
    but outside the field of view, 2 inside it.

    Args:
        dataset: a name in ``DATASETS``.
        root: where its files lie; None: in $LIGHTNING_SEG_DATA.
        protocol: the name of a shipped split, or a CSV file, or a rule (see ``rules``: ``auto``,
            ``fold-1-of-5``, ...); None: the data set's own default.
        size: height and width in pixels to which images and masks are scaled; None: as they are,
            all of one size.
        crop: side in pixels of random crops on which `fit` trains at the own resolution of
            pictures, which may be of different sizes; validation, test and prediction slide a
            window of that side over them. Leave out ``size``.
        crop_foreground: share of the crops that must hold foreground, if their picture does.
        crop_overlap: of neighbouring windows, as a share of their side.
        sampling: which training images an epoch visits. None: each once. ``foreground``: images
            with and without foreground equally often; ``groups`` or a column of the table: each
            group or value equally often.
        batch_size: samples per optimiser step over all devices together.
        augment: for training images: a preset, a YAML file or a list of transforms (see
            ``augment``).
        augment_on: ``workers``, or ``device``: there workers only draw the random numbers (see
            ``on_device``).
        copies, online: see ``SegmentationDataset``; 6 and False are UNet-A's 800 -> 4,800 training
            images.
        num_workers: loading processes per device; None: one less than the cores, at most 8, and 0
            on one or two cores.
        seed: of the order and the augmentation.
        dataset_options: further arguments of the data set's class.
        cache: a folder for memory-mapped files of the decoded samples, which the next run finds
            again. None: memory, or where they would take over a quarter of what is available, files
            in $XDG_CACHE_HOME/lightning_seg.
        allow_absent_classes: let `fit` train and validate also where a class has no foreground in
            any image of the training or validation split, so that it is not learned or its scores
            are undefined.

    Errors: InputError for an unknown name or an illegal value here, for missing or damaged data in
    ``setup``.
    """

    def __init__(
        self,
        dataset: str = "phantom_polyp",
        root: str | None = None,
        protocol: str | None = None,
        size: int | None = 256,
        batch_size: int = 16,
        augment: str | list[dict[str, Any]] = "unet_a",
        copies: int = 1,
        online: bool = True,
        num_workers: int | None = None,
        seed: int = 42,
        dataset_options: dict[str, Any] | None = None,
        cache: str | None = None,
        augment_on: Literal["workers", "device"] = "workers",
        allow_absent_classes: bool = False,
        crop: int | None = None,
        crop_foreground: float = 0.5,
        crop_overlap: float = OVERLAP,
        sampling: str | None = None,
    ) -> None:
        super().__init__()
        self.crops: Crops | None = None
        if crop is not None:
            self.crops = Crops(crop, crop_foreground, crop_overlap)
            check_crop_size(size, crop)
            size = None
        # a Path in a checkpoint could not be loaded again
        root = None if root is None else str(root)
        self.save_hyperparameters()
        self.hparams["size"] = size
        # a checkpoint must find its files from any folder
        for name, path in (("root", root), ("protocol", protocol)):
            if path is not None and Path(path).expanduser().exists():
                self.hparams[name] = str(real_path(path))
        if isinstance(augment, str) and Path(augment).suffix in (".yaml", ".yml"):
            # a checkpoint holds the transforms, as the file may change
            self.hparams["augment"] = transforms_of(augment)
        if cache is not None:
            self.hparams["cache"] = str(real_path(cache))
        lowest = {
            "size": (1 if size is None else size, 1),
            "batch_size": (batch_size, 1),
            "copies": (copies, 1),
            "seed": (seed, 0),
        }
        for name, (value, least) in (lowest | {"num_workers": (num_workers or 0, 0)}).items():
            if value < least:
                raise InputError(f"data.{name} is {value}; give a whole number from {least}.")
        if num_workers is not None and num_workers > _MOST_WORKERS:
            raise InputError(
                f"data.num_workers is {num_workers}; give a whole number up to {_MOST_WORKERS}."
            )
        if size is not None and size > MOST_SIDE:
            raise InputError(f"data.size is {size}; give a whole number up to {MOST_SIDE}.")
        self._kind = source_class(dataset)
        self._options = _known_options(dataset, self._kind, dataset_options or {})
        resolved = resolve(protocol or self._kind.default_protocol, self._kind)
        self._split: Split | None = resolved if isinstance(resolved, Split) else None
        self._rule: Rule | None = None if isinstance(resolved, Split) else resolved
        self._augmentation: Augmentation | DeviceAugmentation = Augmentation(
            transforms_of(augment), seed
        )
        if augment_on not in ("workers", "device"):
            raise unknown(
                "place for the augmentation (data.augment_on)", augment_on, ("workers", "device")
            )
        if augment_on == "device":
            self._augmentation = DeviceAugmentation(self._augmentation)
        self.corruption: Corruption | None = None  # of the test images
        self._source: Source | None = None
        self._ids: dict[str, tuple[str, ...]] = {}
        self._datasets: dict[str, SegmentationDataset] = {}
        self._fingerprints: dict[str, Fingerprint] = {}
        self._start = (0, 0)  # the epoch within which `fit` is resumed, and its batches done

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the K mask channels."""
        return tuple(self._options.get("classes", self._kind.classes))

    @property
    def in_channels(self) -> int:
        """The C of the images."""
        return int(self._options.get("in_channels", self._kind.in_channels))

    @property
    def channels(self) -> str:
        """What they are: ``RGB``, ``grey``, or ``slices`` of a scan."""
        return channel_meaning(self.hparams["dataset"], self.in_channels)

    @property
    def split(self) -> Split:
        """The protocol's split; where a rule makes it, the data set is opened."""
        if self._split is None:
            _ = self.source
        assert self._split is not None
        return self._split

    @property
    def protocol_name(self) -> str:
        return self.split.name

    @property
    def protocol_digest(self) -> str:
        """12 hex digits that identify the protocol's (id, split) pairs."""
        return self.split.digest

    @property
    def grouped(self) -> bool:
        """True where patients, sequences, scans or duplicates are known, which splits keep
        together."""
        return hasattr(self._kind, "expand") or any(
            group != id for id, group in self.source.groups.items()
        )

    @property
    def leaks(self) -> bool:
        """True where the protocol says that patients or sequences cross its splits."""
        return self.split.leaks

    @property
    def synthetic(self) -> bool:
        """True where the images were made by a program, which every report must say."""
        return bool(getattr(self._kind, "synthetic", False))

    @property
    def regions(self) -> bool:
        """True where batches hold a ``region``; the data set is opened."""
        return bool(getattr(self.source, "regions", False))

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of a split's samples (``train``, ``val``, ``test``, and those that some protocols
        reserve), in the order of a batch's ``index``.

        Those of the protocol; where these are scans and the samples slices (``expand``), the data
        set is opened.
        """
        if not hasattr(self._kind, "expand"):
            return self.split.ids.get(split, ())
        if split not in self._ids:
            source: Any = self.source
            self._ids[split] = tuple(
                sample for id in self.split.ids.get(split, ()) for sample in source.expand(id)
            )
        return self._ids[split]

    @property
    def source(self) -> Source:
        """The data set itself; opened when first used, and checked against the protocol."""
        if self._source is None:
            root = self.hparams["root"]
            source: Source = self._kind(
                root=Path(root).expanduser() if root else None, **self._options
            )
            split = self._rule(source) if self._rule is not None else self.split
            check(split, source)
            self._source, self._split = source, split
            self._say_left_aside(source)
            self._say_doubts(source)
        return self._source

    def _say_left_aside(self, source: Any) -> None:
        left = "; ".join(getattr(source, "left_aside", ()))
        _, rank = self._place()
        if left and rank == 0:
            unit = "scan" if hasattr(source, "expand") else "image"
            used = f"{self.hparams['dataset']}: {count_text(len(source.ids), unit)} used"
            print(f"{used}; left aside: {left}", file=sys.stderr)

    def _say_doubts(self, source: Any) -> None:
        """Say what names, and the headers of scans, leave open, once."""
        _, rank = self._place()
        doubts = *getattr(source, "doubts", ()), *alike_ids(source.ids)
        for doubt in doubts if rank == 0 else ():
            print(f"warning: {doubt}", file=sys.stderr)

    def fingerprint(self, split: str) -> Fingerprint:
        """The images and masks that a split holds; what is not read yet is read, once."""
        if split not in self._fingerprints:
            if split not in self._datasets:
                self._datasets[split] = self._load(split)
            contents = self._datasets[split].contents
            self._fingerprints[split] = self.fingerprint_of(split, contents)
        return self._fingerprints[split]

    def fingerprint_of(self, split: str, contents: Mapping[str, Content]) -> Fingerprint:
        """`fingerprint` of a split whose samples were read elsewhere.

        Args:
            contents: what `content_of` gives of each.
        """
        return Fingerprint(
            dataset=self.hparams["dataset"],
            root=self.hparams["root"] or "",
            options=self._options,
            protocol=self.protocol_name,
            protocol_digest=self.protocol_digest,
            split=split,
            contents=contents,
        )

    def lost_foreground(self, split: str) -> str:
        """How many masks of a split lose a class at the network's size, in words; empty for none."""
        data, side = self._datasets[split], self.hparams["size"]
        masks, lost = count_text(len(data.ids), f"{split} mask"), data.lost(self.classes)
        parts = [f"all {name} in {count} of {masks}" for name, count in lost.items()]
        return f"{' and '.join(parts)} is lost at {side} x {side} pixels" * bool(parts)

    def covering_masks(self) -> str:
        """Doubts about training masks that cover nearly whole pictures, in words; empty for few."""
        shares = self._datasets["train"].mask_shares()
        doubt = covering_doubt(shares, "training mask", _FEW_COVERING)
        return doubt and f"{doubt}; look at them with `lightning-seg data check`"

    def prepare_data(self) -> None:
        """Extract an archive, once per machine, before the other ranks look for its files."""
        _ = self.source

    def setup(self, stage: str) -> None:
        """Read the splits of the stage; the test split is not opened before ``test`` or
        ``predict``."""
        for split in _STAGES[stage]:
            if not self.split.ids[split]:
                raise InputError(
                    f"protocol {self.protocol_name} has no {split} ids; name another with data.protocol."
                )
            if split not in self._datasets:
                self._datasets[split] = self._load(split)

    def corrupt(self, corruption: Corruption | None) -> None:
        """Show test images corrupted from now on, or as they are; what was read stays as it is."""
        data = self._datasets["test"]
        data.augmentation = None if corruption is None else CorruptingAugmentation(corruption)
        self.corruption = corruption

    def require_exclusive(self) -> None:
        """InputError where pixels of the training or validation split are of several classes."""
        for split in _STAGES["fit"]:
            id = self._datasets[split].overlapping()
            if id:
                raise InputError(
                    f"the masks of the {split} image {id!r} overlap, but the classes of this "
                    "training are exclusive; leave out classes: exclusive, or choose labels that "
                    "do not overlap (of lits: data.dataset_options.labels exclusive)."
                )

    def require_foreground(self) -> None:
        """InputError where a class is in no image of the training or validation split, unless that
        is allowed."""
        if not self.hparams["allow_absent_classes"]:
            for split in _STAGES["fit"]:
                self._require_foreground(split)

    def _require_foreground(self, split: str) -> None:
        data = self._datasets[split]
        absent = data.absent(self.classes)
        if not absent:
            return
        side = self.hparams["size"]
        size = f" at {side} x {side} pixels" if side else ""
        raise InputError(
            f"no {split} image has any {' or '.join(absent)}: {count_text(len(data.ids), 'mask')} of the "
            f"{split} split of protocol {self.protocol_name!r} without any of it{size}; look at them "
            "with `lightning-seg data check`, raise data.size, name another protocol, or set "
            "data.allow_absent_classes: true."
        )

    def _load(self, split: str) -> SegmentationDataset:
        side = self.hparams["size"]
        size = None if side is None else (side, side)
        place, _ = self._place()
        folder = self.hparams["cache"] and Path(self.hparams["cache"])
        cache = Cache({"dataset": self.hparams["dataset"], **self._options}, folder, place)
        if split != "train" and self.crops is not None:
            return WholeDataset(self.source, self.ids(split), None, None, cache=cache)
        if split != "train":
            return SegmentationDataset(self.source, self.ids(split), size, None, cache=cache)
        choose = getattr(self.source, "training_ids", tuple)
        copies, online = self.hparams["copies"], self.hparams["online"]
        if self.crops is not None:
            return CropDataset(
                self.source,
                choose(self.ids(split)),
                self.crops,
                self.hparams["seed"],
                self._augmentation,
                copies,
                online,
                cache,
            )
        return SegmentationDataset(
            self.source, choose(self.ids(split)), size, self._augmentation, copies, online, cache
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch of training where the augmentation is the device's."""
        if (
            isinstance(batch, dict)
            and "draw" in batch
            and isinstance(self._augmentation, DeviceAugmentation)
        ):
            return self._augmentation(batch)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The progress of the epoch that is being trained; nothing between two epochs."""
        if self.trainer is None:
            return {}
        loop: Any = self.trainer.fit_loop
        epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
        within = epochs.processed < epochs.started
        if not within or batches.processed >= self.trainer.num_training_batches:
            return {}
        size = self.hparams["batch_size"]
        return {"epoch": epochs.processed, "batches": batches.processed, "batch_size": size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on within an epoch: `fit` does not see again what it has seen of it."""
        saved, given = state_dict["batch_size"], self.hparams["batch_size"]
        if saved != given:
            raise InputError(
                f"the checkpoint was written within an epoch of batches of {saved}, which cannot "
                f"go on with data.batch_size {given}; leave it at {saved}, or resume from the "
                "end of an epoch."
            )
        self._start = state_dict["epoch"], state_dict["batches"]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        data, (world, rank) = self._datasets["train"], self._place()
        drop_last = len(data) > self.hparams["batch_size"]
        epoch, batches = self._start
        start = epoch, batches * self.hparams["batch_size"] // world
        if rank == 0 and self.hparams["num_workers"] == 0 and self._on_gpu():
            warnings.warn(_NO_WORKERS, stacklevel=2)
        kind, seed = self.hparams["sampling"], self.hparams["seed"]
        weights = None if kind is None else sampling_weights(kind, data, self.source)
        sampler = EpochSampler(data, world, rank, seed, drop_last, start, weights)
        return self._loader(data, sampler, drop_last)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._in_order("test")

    def _in_order(self, split: str) -> DataLoader[dict[str, Any]]:
        data, (world, rank) = self._datasets[split], self._place()
        if len(data) < world:
            raise InputError(
                f"{count_text(len(data), f'{split} sample')} cannot be shared by {world} devices; "
                f"give --trainer.devices {len(data)} or less."
            )
        # the usual DistributedSampler repeats samples to fill the last batch, and the scores would count them twice
        sampler = (
            UnrepeatedDistributedSampler(data, world, rank, shuffle=False) if world > 1 else None
        )
        return self._loader(data, sampler, drop_last=False)

    def _loader(
        self, data: SegmentationDataset, sampler: Any, drop_last: bool
    ) -> DataLoader[dict[str, Any]]:
        world, _ = self._place()
        batch_size, given = self.hparams["batch_size"], self.hparams["num_workers"]
        if batch_size % world:
            raise InputError(
                f"data.batch_size {batch_size} cannot be shared by {world} devices; give a multiple of {world}."
            )
        whole = isinstance(data, WholeDataset)
        workers = default_workers() if given is None else given
        # whole pictures are read window by window, where the network is
        workers = 0 if whole else workers
        return DataLoader(
            data,
            # by name: Lightning rebuilds the loader of predict from names
            batch_size=1 if whole else batch_size // world,
            sampler=sampler,
            collate_fn=collate_pictures if whole else collate,
            num_workers=workers,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
        )

    def _on_gpu(self) -> bool:
        strategy = getattr(self.trainer, "strategy", None)
        return strategy is not None and strategy.root_device.type == "cuda"

    def _place(self) -> tuple[int, int]:
        """(number of processes, rank of this one)."""
        return (
            (self.trainer.world_size, self.trainer.global_rank)
            if self.trainer is not None
            else (1, 0)
        )


def _known_options(
    dataset: str,
    kind: type[Any],
    options: dict[str, Any],
) -> dict[str, Any]:
    legal = [name for name in inspect.signature(kind).parameters if name != "root"]
    for name in options:
        if name not in legal:
            raise unknown(f"option of {dataset}", name, legal)
    return options


def check_crop_size(size: int | None, crop: int) -> None:
    """InputError where a size was given besides crops, which are of pictures as they are."""
    default = inspect.signature(SegmentationDataModule).parameters["size"].default
    if size not in (None, default):
        raise InputError(
            f"data.crop {crop} takes pictures at their own resolution, but data.size {size} "
            "scales them; leave one of them out."
        )


def default_workers() -> int:
    """Loading processes per device, where none are named."""
    cores = usable_cores()
    # beside a GPU one core suffices for the steps, and without a loading process it would wait
    fewest = 1 if torch.cuda.is_available() else 0
    return fewest if cores <= 2 else min(8, cores - 1)


def _start_worker(_: int) -> None:
    # OpenCV's thread pool does not survive a fork, and the workers fill the cores already
    cv2.setNumThreads(0)
    # sent to all processes at once, it is for the training alone, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
