"""What `fit` says on the terminal: what is trained on what, a line for each epoch, and what to do
next."""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim.lr_scheduler import LambdaLR

from lightning_seg.options import shell_command
from lightning_seg.runs.trained_on import resumed_otherwise
from lightning_seg.tables import count_text
from lightning_seg.training.checkpointing import BestCheckpoint
from lightning_seg.training.run_place import run_of
from lightning_seg.training.termination import was_interrupted

SCORES = ("val/loss", "val/dice", "val/dice_image")  # those of a validation that are printed


class TrainingLog(L.Callback):
    """Prints in the main process.

    Args:
        precision_note: why the precision is what it is, where nobody named one.
    """

    def __init__(self, precision_note: str = "") -> None:
        self._note = precision_note
        self._start = time.monotonic()  # of this epoch
        self._begin = 0.0  # of the first epoch
        self._first = 0  # the epoch with which this sitting began
        self._line = ""
        self._scored = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._first, self._begin = trainer.current_epoch, time.monotonic()
        for name, text in _training_facts(trainer, pl_module, self._note):
            _say(trainer, f"{f'{name}:':11}{text}")
        others = resumed_otherwise(trainer.datamodule, pl_module.trained_on)
        notes = [*(f"note: {text}" for text in others), *_limit_notes(trainer)]
        for note in filter(None, [_rate_note(trainer), *notes]):
            _say(trainer, note)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._say_epoch(trainer)
        self._start, self._scored = time.monotonic(), False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._scored = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # the training loss is known a moment later: the line is printed by the next hook
        self._line = f"epoch {trainer.current_epoch + 1}{_of_epochs(trainer)}"

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._say_epoch(trainer)

    def _say_epoch(self, trainer: Any) -> None:
        if not self._line:
            return
        names = ["train/loss", *(SCORES if self._scored else ())]
        known = trainer.callback_metrics
        parts = [f"{name} {float(known[name]):.4f}" for name in names if name in known]
        seconds = time.monotonic() - self._start
        done = max(trainer.current_epoch - self._first, 1)
        parts += [_duration(seconds), *self._left(trainer, done)]
        _say(trainer, f"{self._line}: {', '.join(parts)}")
        self._line = ""

    def _left(self, trainer: Any, done: int) -> Iterator[str]:
        left = trainer.max_epochs - trainer.current_epoch
        if left > 0 and not trainer.should_stop:
            yield f"{_duration((time.monotonic() - self._begin) / done * left)} left"

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if not was_interrupted(exception) or not trainer.is_global_zero:
            return
        last = run_of(trainer).last if trainer.state.fn == "fit" else None
        again = "no epoch was finished"
        if last is not None:
            command = shell_command("lightning-seg", "fit", "--ckpt_path", last.path)
            again = f"go on with: {command}"
        print(f"interrupted in epoch {trainer.current_epoch + 1}; {again}", file=sys.stderr)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        best = next(c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint))
        path, value = best.best_model_path, best.best_model_score
        if path:
            score = "" if value is None else f"{best.monitor} {float(value):.4f}"
            print(f"best checkpoint:  {path}  ({score})")
        else:
            print(f"no best checkpoint: no validation found {best.monitor}")
        for board in (each for each in trainer.loggers if isinstance(each, TensorBoardLogger)):
            folder = Path(board.log_dir)
            command = shell_command("tensorboard", "--logdir", folder.parent)
            print(f"TensorBoard:      {folder}  (open: {command})")
        if path:
            command = shell_command("lightning-seg", "test", "--ckpt_path", path)
            print(f"next:             {command}")


def _training_facts(
    trainer: Any,
    pl_module: Any,
    precision_note: str,
) -> Iterator[tuple[str, str]]:
    """Tell what is trained, on what, with what."""
    data, config = trainer.datamodule, pl_module.hparams
    counts = ", ".join(f"{len(ids)} {split}" for split, ids in data.split.ids.items())
    marks = " (SYNTHETIC)" if data.synthetic else ""
    leaks = " (LEAKS)" if data.leaks else ""
    yield (
        "data",
        f"{data.hparams['dataset']}{marks}, protocol {data.protocol_name}{leaks}: {counts}",
    )
    yield "classes", ", ".join(data.classes)
    side = data.hparams["size"]
    shape = f"{side} x {side}" if side else "their own size"
    batch = data.hparams["batch_size"]
    yield "images", f"{count_text(data.in_channels, 'channel')}, {shape}, in batches of {batch}"
    total = sum(parameter.numel() for parameter in pl_module.net.parameters())
    learn = sum(p.numel() for p in pl_module.net.parameters() if p.requires_grad)
    frozen = f", {total - learn:,} of them frozen" if total != learn else ""
    encoder = f" with {config['encoder']}" if config["encoder"] else ""
    yield "network", f"{config['architecture']}{encoder}, {total:,} parameters{frozen}"
    if config["encoder"]:
        origin = " ".join(pl_module.origin.values()) or "none, from scratch"
        yield "encoder", f"weights {origin}"
    devices = f"{trainer.world_size} x " if trainer.world_size > 1 else ""
    yield "device", f"{devices}{trainer.strategy.root_device}"
    yield "precision", f"{trainer.precision}{precision_note}"
    yield "run", str(run_of(trainer).folder)


def _rate_note(trainer: Any) -> str:
    """Tell what a resumed run does to the learning rate, where its schedule has become another."""
    if trainer.global_step == 0:
        return ""
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        if not isinstance(schedule, LambdaLR):
            continue
        was = schedule.get_last_lr()[0]
        now = schedule.base_lrs[0] * schedule.lr_lambdas[0](schedule.last_epoch)
        if not math.isclose(was, now, rel_tol=1e-6, abs_tol=1e-12):
            return (
                f"note: the learning rate starts anew at {now:.3g}, where it had come to {was:.3g}: "
                "its schedule is that of a training of another length."
            )
    return ""


def _limit_notes(trainer: Any) -> Iterator[str]:
    """What must be said where options leave images out, which none of the scores says."""
    parts = {"limit_train_batches": "trains on", "limit_val_batches": "validates on"}
    for option, does in parts.items():
        limit = getattr(trainer, option)
        if not (isinstance(limit, float) and limit == 1.0):
            yield f"note: PARTIAL: {option} {limit}: each epoch {does} a part of the images"


def _say(trainer: Any, text: str) -> None:
    if not trainer.is_global_zero:
        return
    bar = trainer.progress_bar_callback
    if bar is not None and bar.is_enabled:
        bar.print(text)
    else:
        print(text, flush=True)


def _of_epochs(trainer: Any) -> str:
    return f" of {trainer.max_epochs}" if trainer.max_epochs > 0 else ""


def _duration(seconds: float) -> str:
    """``8.3 s``, ``12 min``, ``1 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
