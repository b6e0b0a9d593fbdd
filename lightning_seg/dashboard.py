"""What TensorBoard shows of a run: curves are Lightning's, these are the pictures and tables."""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_seg.inference.writer import contact_sheet

EXAMPLES = 6


class Dashboard(L.Callback):
    """Into TensorBoard: example overlays and the precision-recall curve of each validation, hyper-parameters with the best score."""

    def __init__(self) -> None:
        self.examples: dict[str, torch.Tensor] = {}

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0:
            self.examples = {key: batch[key][:EXAMPLES] for key in ("image", "mask")}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        writer = _writer(trainer)
        if writer is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        step = trainer.global_step
        with torch.inference_mode():
            prediction = pl_module.eval()(self.examples["image"]).logits > 0
        images, truths = list(self.examples["image"]), list(self.examples["mask"])
        titles = [f"epoch {trainer.current_epoch}"] * len(images)
        sheet = contact_sheet(images, truths, list(prediction), titles)
        writer.add_image("val/overlays", sheet, step, dataformats="HWC")
        for name, histogram in zip(pl_module.classes, pl_module.histogram.cpu().numpy(), strict=True):
            _add_pr_curve(writer, f"val/pr_{name}", histogram, step)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        best: Any = trainer.checkpoint_callback
        if _writer(trainer) is not None and best is not None and best.monitor and best.best_model_score is not None:
            parameters = {**trainer.datamodule.hparams, **pl_module.hparams}
            trainer.logger.log_hyperparams(parameters, {f"best/{best.monitor}": float(best.best_model_score)})


def _writer(trainer: Any) -> Any:
    return (
        trainer.logger.experiment if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero else None
    )


def _add_pr_curve(writer: Any, tag: str, histogram: np.ndarray, step: int) -> None:
    """histogram (2, bins): pixels of background and foreground by probability."""
    fp, tp = histogram[:, ::-1].cumsum(1)[:, ::-1]  # predicted positive at each lower edge of a bin
    tn, fn = histogram[0].sum() - fp, histogram[1].sum() - tp
    precision, recall = tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1)
    writer.add_pr_curve_raw(tag, tp, fp, tn, fn, precision, recall, step, num_thresholds=histogram.shape[1])
