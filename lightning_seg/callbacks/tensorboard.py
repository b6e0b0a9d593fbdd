"""The dashboard of a run in TensorBoard: curves are Lightning's, these are the pictures, texts and
tables."""

import inspect
import json
from typing import Any

import lightning as L
import numpy as np
import torch
import yaml
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from lightning_seg.data import SegmentationDataModule
from lightning_seg.evaluation.curves import calibration_of, pr_curve, reliability
from lightning_seg.evaluation.summary import Summary
from lightning_seg.inference.pictures import (
    contact_sheet,
    jpeg_content,
    of_slices,
    with_legend,
)
from lightning_seg.plots import draw_picture
from lightning_seg.reports.printing import (
    OVERLAP_HEADER,
    headline,
    other_scores,
    overlap_rows,
)
from lightning_seg.reports.reliability import reliability_plot
from lightning_seg.runs import Run
from lightning_seg.tables import Table
from lightning_seg.training.module import SegmentationModule
from lightning_seg.training.optimizer import Optimization
from lightning_seg.training.run_place import run_of

EXAMPLES = 6
# the charts of TensorBoard's page "custom scalars", scores first
_LAYOUT = {
    "scores": {
        "Dice": ["Multiline", ["val/dice", "val/dice_image"]],
        "IoU": ["Multiline", ["val/iou", "val/iou_image"]],
        "precision and recall": ["Multiline", ["val/precision", "val/recall"]],
    },
    "losses": {"loss": ["Multiline", ["train/loss", "val/loss"]]},
    "learning rate": {"learning rate": ["Multiline", ["lr-.*"]]},
}
TESTED = (
    "test/dice",
    "test/dice_image",
    "test/iou",
    "test/iou_image",
)  # shown beside the hyper-parameters, never monitored


class Dashboard(L.Callback):
    """Shows in TensorBoard: the recipe and the data as text; example overlays at each validation
    that is the best so far; precision-recall curves and reliability diagrams at each validation
    and a test; the hyper-parameters with the best validation score and the test's."""

    def __init__(self) -> None:
        self.examples: dict[
            str, torch.Tensor
        ] = {}  # of a validation's first batch: image, mask, prediction
        self.hook: Any = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        writer = _writer(trainer)
        if writer is not None:
            writer.add_text("run/recipe", _recipe_text(trainer, pl_module))
            data = Table(("data", ""), _data(trainer.datamodule, pl_module))
            writer.add_text("run/data", data.markdown())
            writer.add_custom_scalars(_LAYOUT)
            _add_hparams(writer, trainer, pl_module)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        # whole pictures are predicted in windows, which are no examples
        if batch_idx == 0 and "image" in batch:
            self.examples = {key: batch[key][:EXAMPLES].cpu() for key in ("image", "mask")}
            self.hook = pl_module.register_forward_hook(self._keep)

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        """The prediction as it is scored: another forward pass would cost as much as the first
        batch."""
        if output is not None:  # under DDP the validation step passes through here too
            self.examples["prediction"] = module.masks_of(output.logits[:EXAMPLES]).cpu()

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.hook is not None:
            self.hook.remove()
            self.hook = None

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        writer, step = _writer(trainer), trainer.global_step
        if self.examples and trainer.loggers and _is_best_so_far(trainer):
            images, truths, predictions = (
                list(self.examples[key]) for key in ("image", "mask", "prediction")
            )
            titles = [f"epoch {trainer.current_epoch + 1}"] * len(images)
            sheet = contact_sheet(images, truths, predictions, titles, of_slices(trainer))
            _add_image(trainer, "val/overlays", with_legend(sheet, pl_module.classes), step)
        if writer is not None:
            _add_probabilities(writer, "val", pl_module, step)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        writer = _writer(trainer)
        if writer is not None:
            _add_probabilities(writer, "test", pl_module, trainer.global_step)
            _add_hparams(writer, trainer, pl_module)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        best, writer = _best_checkpoint(trainer), _writer(trainer)
        if writer is not None and best is not None and best.best_model_score is not None:
            writer.add_scalar(f"best/{best.monitor}", float(best.best_model_score))


def add_scores(trainer: Any, summary: Summary) -> None:
    """Add the scores of a test or validation, each with its convention and interval, as text."""
    writer = _writer(trainer)
    if writer is None:
        return
    run = Run.holding(summary.checkpoint)
    ending = run.cautions if run is not None else []
    notes = "".join(f"**{text}**  \n" for text in [*summary.cautions(), *ending])
    title = f"{notes}{headline(summary)}  \n`{summary.checkpoint}`"
    overlap = Table(OVERLAP_HEADER, overlap_rows(summary))
    others = Table(("measure or convention", "value", "95 %"), list(other_scores(summary)))
    text = f"{title}\n\n{overlap.markdown()}\n\n{others.markdown()}"
    writer.add_text(f"{summary.split}/scores", text)


def _add_image(trainer: Any, name: str, image: np.ndarray, step: int) -> None:
    """Show an image (H, W, 3) uint8 in every logger that shows images."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _add_jpeg(logger.experiment, name, image, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [image], step)
        elif isinstance(logger, MLFlowLogger):
            file = f"{name}-{step:06d}.png"
            logger.experiment.log_image(logger.run_id, image, file)


def _add_jpeg(writer: Any, name: str, image: np.ndarray, step: int) -> None:
    """Add a picture as JPEG, a fifth of the PNG that ``add_image`` would make."""
    # not needed by `--help`
    from tensorboard.compat.proto.summary_pb2 import Summary as Event

    height, width, _ = image.shape
    content = jpeg_content(image)
    shown = Event.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    event = Event(value=[Event.Value(tag=name, image=shown)])
    writer._get_file_writer().add_summary(event, step)


def _is_best_so_far(trainer: Any) -> bool:
    """Tell whether no validation before was better, as far as the run keeps a best checkpoint.

    To be asked before the callback of checkpoints, which Lightning calls last.
    """
    best = _best_checkpoint(trainer)
    value = trainer.callback_metrics.get(getattr(best, "monitor", None))
    if best is None or value is None or best.best_model_score is None:
        return True
    smaller = best.mode == "min"
    return bool(value < best.best_model_score if smaller else value > best.best_model_score)


def _best_checkpoint(trainer: Any) -> Any:
    """The callback that keeps the best epoch; a recipe may have others beside the run's own."""
    found = [each for each in trainer.checkpoint_callbacks if getattr(each, "monitor", None)]
    return next(
        (each for each in found if getattr(each, "role", "") == "best"), next(iter(found), None)
    )


def _writer(trainer: Any) -> Any:
    """The writer of the first TensorBoard among the loggers, in the main process."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return boards[0].experiment if boards and trainer.is_global_zero else None


def _recipe_text(trainer: Any, pl_module: Any) -> str:
    """The run's configuration without what is left to defaults, as a block of YAML."""
    file = run_of(trainer).config_file
    config = (
        yaml.safe_load(file.read_text(encoding="utf-8"))
        if file.is_file()
        else {"model": _primitives(pl_module.hparams)}
    )
    return f"```yaml\n{yaml.safe_dump(_given(config), sort_keys=False)}```"


def _given(config: dict[str, Any]) -> dict[str, Any]:
    nested = {
        key: _given(value) if isinstance(value, dict) else value for key, value in config.items()
    }
    return {key: value for key, value in nested.items() if value not in (None, {}, [])}


def _data(data: Any, pl_module: Any) -> list[tuple[str, str]]:
    sizes = ", ".join(f"{split} {len(ids)}" for split, ids in data.split.ids.items())
    return [
        ("data set", f"{data.hparams['dataset']}{' (SYNTHETIC)' if data.synthetic else ''}"),
        ("protocol", f"{data.protocol_name}{' (LEAKS)' if data.leaks else ''}"),
        ("digest", data.protocol_digest),
        ("images", sizes),
        ("patients or sequences", "known, kept together" if data.grouped else "not known"),
        (
            "encoder weights",
            ", ".join(f"{key} {value}" for key, value in pl_module.origin.items()) or "none",
        ),
    ]


def _primitives(values: Any) -> dict[str, Any]:
    """Hyper-parameters as TensorBoard takes them: numbers and strings, by the same names for every
    architecture."""
    return {
        key: value
        if isinstance(value, bool | int | float | str)
        else json.dumps(value, default=str)
        for key, value in values.items()
        if not key.startswith("_")
    }


def _add_hparams(writer: Any, trainer: Any, pl_module: Any) -> None:
    """TensorBoard takes the columns from the first run it reads, so each run names all of them,
    whether it has values yet or not."""
    monitor = getattr(_best_checkpoint(trainer), "monitor", None)
    columns = ([f"best/{monitor}"] if monitor else []) + list(TESTED)
    # TensorBoard takes a quarter of a second, and `--help` none
    from torch.utils.tensorboard.summary import hparams

    given = {**trainer.datamodule.hparams, **pl_module.hparams}
    experiment, *session = hparams(_primitives(given), dict.fromkeys(columns, 0.0))
    _show_first(experiment, _set_by_the_run(given))
    for summary in (experiment, *session):
        writer._get_file_writer().add_summary(summary)


def _set_by_the_run(values: dict[str, Any]) -> set[str]:
    """The names of the hyper-parameters that are not at their defaults."""
    kinds = (SegmentationDataModule, SegmentationModule, Optimization)
    known = {
        name: parameter.default
        for kind in kinds
        for name, parameter in inspect.signature(kind).parameters.items()
    }
    return {name for name, value in values.items() if value != known.get(name)}


def _show_first(experiment: Any, names: set[str]) -> None:
    """Mark hyper-parameters as those that vary, which TensorBoard shows before all others."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in names
    data.content = content.SerializeToString()


def _add_probabilities(writer: Any, stage: str, pl_module: Any, step: int) -> None:
    for name, histogram in zip(pl_module.classes, pl_module.scored.histogram, strict=True):
        curve = pr_curve(histogram)
        counts = (curve.tp, curve.fp, curve.tn, curve.fn, curve.precision, curve.recall)
        writer.add_pr_curve_raw(
            f"{stage}/pr_{name}", *counts, step, num_thresholds=len(curve.thresholds)
        )
        diagram = draw_picture(reliability_plot(reliability(calibration_of(histogram)), name))
        writer.add_image(f"{stage}/reliability_{name}", diagram, step, dataformats="HWC")
