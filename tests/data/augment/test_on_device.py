"""The augmentation on the device: the change that workers would make, but for rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.augment.on_device import DeviceAugmentation
from lightning_seg.data.augment.pipeline import PRESETS, Augmentation
from lightning_seg.data.dataset import SegmentationDataset, collate
from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError

MakeSource = Callable[..., Any]
CHAINS: dict[str, list[dict[str, Any]]] = {
    **{name: PRESETS[name] for name in ("unet_a", "pam_unet", "none")},
    "turn": [{"name": "Rotate", "limit": 180, "p": 1.0}],
    "nearest": [
        {"name": "Rotate", "limit": 180, "interpolation": 0, "p": 0.5},
        {"name": "VerticalFlip"},
    ],
    "colour": [
        {
            "name": "ColorJitter",
            "brightness": [0, 2],
            "contrast": [0, 2],
            "saturation": [0, 3],
            "p": 0.8,
        }
    ],
}


def smooth(make_source: MakeSource, channels: int = 3) -> Any:
    """Soft pictures with a region, for bilinear rotation to have something to agree upon."""
    source = make_source(size=48)
    read = source.read

    def softened(id: str) -> Sample:
        image, mask, _ = read(id)
        image = cv2.GaussianBlur(image, (0, 0), 3)[..., :channels]
        return Sample(np.ascontiguousarray(image), mask, mask[..., 0] + np.uint8(1))

    source.read = softened
    return source


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("chain", sorted(CHAINS))
def test_it_changes_a_batch_as_the_workers_do(
    chain: str, channels: int, make_source: MakeSource
) -> None:
    augmentation = Augmentation(CHAINS[chain], 3)
    source, device = smooth(make_source, channels), DeviceAugmentation(augmentation)
    workers = SegmentationDataset(source, source.ids, (40, 48), augmentation)
    raw = SegmentationDataset(source, source.ids, (40, 48), device)
    for epoch in range(3):
        keys = [(epoch, index) for index in range(len(source.ids))]
        expected = collate([workers[key] for key in keys])
        found = device(collate([raw[key] for key in keys]))
        assert found.keys() == expected.keys()
        for part in ("image", "mask", "region"):
            assert found[part].dtype == torch.uint8
            assert found[part].shape == expected[part].shape
        difference = (found["image"].int() - expected["image"].int()).abs()
        assert (difference > 2).float().mean() < 0.002, chain
        for part in ("mask", "region"):
            assert (found[part] != expected[part]).float().mean() < 0.004, chain


def test_offline_copies_are_the_workers_and_the_original_stays(make_source: MakeSource) -> None:
    source, augmentation = smooth(make_source), Augmentation(PRESETS["unet_a"], 3)
    device = DeviceAugmentation(augmentation)
    workers = SegmentationDataset(source, source.ids, None, augmentation, copies=2, online=False)
    raw = SegmentationDataset(source, source.ids, None, device, copies=2, online=False)
    found = device(collate([raw[5, index] for index in range(24)]))
    expected = collate([workers[index] for index in range(24)])
    assert torch.equal(found["image"][:12], expected["image"][:12])
    assert torch.equal(found["mask"][:12], expected["mask"][:12])
    difference = (found["image"][12:].int() - expected["image"][12:].int()).abs()
    assert difference.float().mean() < 0.2
    assert not torch.equal(found["image"][12:], found["image"][:12])


@pytest.mark.parametrize(
    "transform",
    [
        {"name": "GridDistortion"},
        {"name": "Rotate", "limit": 3, "border_mode": 1},
        {"name": "Rotate", "limit": 3, "fill": 255},
        {"name": "ColorJitter", "brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1},
        {"name": "OneOf", "transforms": [{"name": "HorizontalFlip"}]},
    ],
)
def test_what_it_does_not_know_is_refused(transform: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"on the device does not know .*; set data.augment_on: workers"
    ):
        SegmentationDataModule(augment=[transform], augment_on="device")


def test_another_place_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'device'"):
        SegmentationDataModule(augment_on="devise")  # type: ignore[arg-type]


class Record(LightningModule):
    """Keeps the images of each training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, torch.Tensor] = {}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        assert "draw" not in batch
        self.seen |= {
            f"{self.current_epoch} {id}": x
            for id, x in zip(batch["id"], batch["image"], strict=True)
        }
        return self.weight**2

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert batch["image"].dtype == torch.uint8

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore")
def test_training_sees_the_same_images_up_to_rounding(tmp_path: Path) -> None:
    found = []
    for place in ("workers", "device"):
        data = SegmentationDataModule(
            "phantom_polyp",
            protocol="auto",
            size=32,
            batch_size=4,
            num_workers=0,
            dataset_options={"count": 20, "resolution": 32},
            augment_on=place,  # type: ignore[arg-type]
        )
        module = Record()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        Trainer(
            default_root_dir=tmp_path,
            max_epochs=2,
            accelerator="cpu",
            enable_checkpointing=False,
            **quiet,
        ).fit(  # type: ignore[arg-type]
            module, data
        )
        found.append(module.seen)
    workers, device = found
    assert workers.keys() == device.keys()
    assert len(workers) == 32
    differences = [
        (workers[name].int() - device[name].int()).abs().float().mean() for name in workers
    ]
    assert max(differences) < 1.5
    assert (
        workers["0 " + next(iter(workers))[2:]].int()
        - workers["1 " + next(iter(workers))[2:]].int()
    ).abs().max() > 5
