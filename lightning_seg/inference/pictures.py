"""`predict` writes one PNG mask per image and a contact sheet to look at."""

from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray
from torch import Tensor

from lightning_seg.data.show import COLOURS
from lightning_seg.files import whole

Image = NDArray[np.uint8]
EXAMPLES, PER_COLUMN = 12, 6


def overlay(image: Tensor, mask: Tensor) -> Image:
    """image (C, H, W) uint8 with the outline and a tint of each channel of mask (K, H, W): RGB (H, W, 3)."""
    picture = image[:3].permute(1, 2, 0).cpu().numpy()
    picture = np.ascontiguousarray(
        np.broadcast_to(picture[..., :1], (*picture.shape[:2], 3))
        if picture.shape[-1] != 3
        else picture
    )
    for k, channel in enumerate(mask.cpu().numpy().astype(np.uint8)):
        colour = COLOURS[k % len(COLOURS)]  # truth and prediction have the same
        inside = channel > 0
        picture[inside] = (0.7 * picture[inside] + 0.3 * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(channel, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, 1)
    return picture


def contact_sheet(
    images: list[Tensor], truths: list[Tensor], predictions: list[Tensor], titles: list[str]
) -> Image:
    """Image, truth and prediction side by side, with a title each, six in a column: RGB."""
    rows = []
    for image, truth, prediction, title in zip(images, truths, predictions, titles, strict=True):
        cells = [overlay(image, mask) for mask in (truth[:0], truth, prediction)]
        row = np.concatenate([np.pad(cell, ((18, 2), (2, 2), (0, 0))) for cell in cells], 1)
        rows.append(
            cv2.putText(
                row, title, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA
            )
        )
    rows += [np.zeros_like(rows[0])] * (-len(rows) % PER_COLUMN if len(rows) > PER_COLUMN else 0)
    columns = [
        np.concatenate(rows[start : start + PER_COLUMN])
        for start in range(0, len(rows), PER_COLUMN)
    ]
    return np.concatenate(columns, 1)


class MaskWriter(BasePredictionWriter):
    """Writes ``<run>/predictions/<checkpoint>-<size>/<id>.png`` and a ``contact_sheet.png``.

    A mask is 0 for background and 255 for the class; of several classes each has its ``<id>_<class>.png``.
    """

    def __init__(self) -> None:
        super().__init__("batch")
        self.rows: list[tuple[Tensor, Tensor, Tensor, str]] = []
        self.folder = Path()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "predict":  # here all ranks agree on the folder of the run
            self.folder = Path(trainer.log_dir or trainer.default_root_dir) / "predictions"

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.folder /= checkpoint_label(trainer)  # known from here on
        self.folder.mkdir(parents=True, exist_ok=True)

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        prediction: Tensor,
        batch_indices: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        masks = (prediction > 0.5).to(torch.uint8)
        for mask, name in zip(masks, batch["id"], strict=True):
            for channel, label in zip(mask, pl_module.classes, strict=True):
                stem = name if len(mask) == 1 else f"{name}_{label}"
                write_png(self.folder / f"{stem}.png", channel.cpu().numpy() * 255)
        note = " (synthetic)" if getattr(trainer, "datamodule").synthetic else ""  # noqa: B009
        for image, truth, mask, name in zip(
            batch["image"], batch["mask"], masks, batch["id"], strict=True
        ):
            if len(self.rows) < EXAMPLES:
                self.rows.append((image.cpu(), truth.cpu(), mask.cpu(), name + note))

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or not self.rows:
            return
        sheet = self.folder / "contact_sheet.png"
        write_png(sheet, contact_sheet(*map(list, zip(*self.rows, strict=True))))  # type: ignore[arg-type]
        print(f"masks:          {self.folder}\ncontact sheet:  {sheet}  (image, truth, prediction)")


def run_dir(trainer: L.Trainer) -> Path:
    """The folder of the run, as the main process knows it (`trainer.log_dir` would wait for the other ranks)."""
    return Path((trainer.logger and trainer.logger.log_dir) or trainer.default_root_dir)


def checkpoint_label(trainer: L.Trainer) -> str:
    """What results of one run differ by, checkpoint and image size: ``best-epoch=051-dice=0.8986-160``."""
    data: Any = getattr(trainer, "datamodule")  # noqa: B009  (an attribute that Lightning does not declare)
    return f"{Path(str(trainer.ckpt_path)).stem}-{data.hparams['size'] or 'native'}"


def score_folder(trainer: L.Trainer, pl_module: Any, split: str) -> Path:
    """Where the scores of a ``val`` or ``test`` split lie: ``<run>/<split>-<protocol>/<label of the checkpoint>``.

    Scores of more than the network alone come before it: ``tta=flips-best-epoch=...``.
    """
    data: Any = getattr(trainer, "datamodule")  # noqa: B009
    native = "-native" if pl_module.scorer.score_at == "native" else ""
    more = f"{pl_module.scorer.label}-" if pl_module.scorer.label else ""
    return (
        run_dir(trainer)
        / f"{split}-{data.protocol_name}"
        / f"{more}{checkpoint_label(trainer)}{native}"
    )


def write_png(path: Path, picture: Image | NDArray[np.uint16]) -> None:
    """Write (H, W) or RGB (H, W, 3) as PNG, or as JPEG where the path ends so, whole or not at all."""
    ok, content = cv2.imencode(path.suffix, picture if picture.ndim == 2 else picture[..., ::-1])
    assert ok, path
    with whole(path) as part:
        part.write_bytes(content.tobytes())
