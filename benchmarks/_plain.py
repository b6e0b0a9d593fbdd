"""The peer: what one writes who trains a network of segmentation_models_pytorch with Lightning; nothing of this project in it.

    python -m benchmarks._plain TABLE --encoder tu-resnet34

TABLE is a CSV file ``id,image,mask,split``, as the data set ``folder`` of this project reads it too.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import lightning as L
import numpy as np
import segmentation_models_pytorch as smp
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    BinaryJaccardIndex,
    BinaryPrecision,
    BinaryRecall,
)


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Image and mask of each row, read and changed anew each time."""

    def __init__(self, table: Path, split: str, size: int) -> None:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        self.files = [(table.parent / row["image"], table.parent / row["mask"]) for row in rows]
        changes = [
            A.HorizontalFlip(p=0.5),
            A.VerticalFlip(p=0.5),
            A.Rotate(limit=30, p=1.0),
            A.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0, p=1.0),
        ]
        chain = changes if split == "train" else []
        self.transform = A.Compose([A.Resize(size, size), *chain, A.Normalize(), ToTensorV2()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_file, mask_file = self.files[index]
        image: Any = cv2.cvtColor(cv2.imread(str(image_file)), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
        mask: Any = cv2.imread(str(mask_file), cv2.IMREAD_GRAYSCALE)
        changed = self.transform(image=image, mask=(mask > 127).astype(np.float32))
        return changed["image"], changed["mask"][None]


class PlainModule(L.LightningModule):
    """Loss, scores and optimiser."""

    def __init__(self, net: nn.Module, lr: float) -> None:
        super().__init__()
        self.net, self.lr = net, lr
        self.dice, self.bce = smp.losses.DiceLoss("binary"), nn.BCEWithLogitsLoss()
        names = {"dice": BinaryF1Score(), "iou": BinaryJaccardIndex()}
        scores = MetricCollection(
            {**names, "precision": BinaryPrecision(), "recall": BinaryRecall()}
        )
        self.train_scores, self.val_scores = (
            scores.clone(prefix="train/"),
            scores.clone(prefix="val/"),
        )

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        loss, logits = self._loss(batch)
        self.score(self.train_scores, "train", logits, batch[1], loss)
        return loss

    def validation_step(self, batch: Any, batch_index: int) -> None:
        loss, logits = self._loss(batch)
        self.score(self.val_scores, "val", logits, batch[1], loss)

    def _loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        logits = self.net(batch[0])
        return 0.5 * self.bce(logits, batch[1]) + 0.5 * self.dice(logits, batch[1]), logits

    def score(
        self, scores: MetricCollection, stage: str, logits: Tensor, mask: Tensor, loss: Tensor
    ) -> None:
        """Count and log a batch."""
        scores.update(logits.detach().float().sigmoid(), mask.int())
        self.log(f"{stage}/loss", loss)
        self.log_dict(scores, on_step=False, on_epoch=True)  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def build(network: str, encoder: str, weights: Path | None = None) -> nn.Module:
    """A network of smp, without pre-trained weights or with those of timm's file; names in small letters are this project's."""
    if network.islower():
        from lightning_seg.models import create

        return create(network, encoder=encoder.removeprefix("tu-"))
    net = getattr(smp, network)(encoder, encoder_weights=None)
    if weights is not None:
        from safetensors.torch import load_file

        net.encoder.model.load_state_dict(
            load_file(weights), strict=False
        )  # the classifier's are left over
    return net


def main(args: Sequence[str], callbacks: Sequence[L.Callback] = ()) -> L.Trainer:
    """Train."""
    options = _parser().parse_args(args)
    L.seed_everything(options.seed, verbose=False)
    torch.set_float32_matmul_precision("high")  # as Lightning's own hint says
    many = options.workers > 0
    workers = {
        "num_workers": options.workers,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": many,
    }
    train = DataLoader(
        Pairs(options.table, "train", options.size), options.batch, True, drop_last=True, **workers
    )
    val = DataLoader(Pairs(options.table, "val", options.size), options.batch, **workers)
    module = PlainModule(build(options.network, options.encoder, options.weights), options.lr)
    trainer = L.Trainer(
        max_epochs=options.epochs,
        precision=options.precision,
        accelerator=options.accelerator,
        devices=1,
        default_root_dir=options.runs,
        callbacks=list(callbacks),
        log_every_n_steps=10,
        check_val_every_n_epoch=options.validate_every,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train, val)
    return trainer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks._plain")
    parser.add_argument("table", type=Path)
    parser.add_argument("--network", default="Unet")
    parser.add_argument("--encoder", default="tu-resnet34")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--runs", default="runs")
    for name, value in {
        "size": 256,
        "batch": 16,
        "epochs": 10,
        "workers": 2,
        "seed": 42,
        "validate_every": 1,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
