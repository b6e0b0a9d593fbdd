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

from lightning_seg.files.steps import is_step
from lightning_seg.options import shell_command
from lightning_seg.runs.trained_on import repeated_in_validation, resumed_otherwise
from lightning_seg.tables import count_text
from lightning_seg.training.checkpointing import BestCheckpoint
from lightning_seg.training.run_place import run_of
from lightning_seg.training.termination import was_interrupted

SCORES = ("val/loss", "val/dice", "val/dice_image")  # those of a validation that are printed
_COLUMNS = ("train/loss", *SCORES)


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
        self._best = ""  # the file of the best epoch so far
        self._best_epoch = 0  # counted from 1; 0: none yet
        self._headed = False
        self._epoch = 0  # the one that has ended, counted from 1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._first, self._begin = trainer.current_epoch, time.monotonic()
        self._know_best(trainer)
        for name, text in _training_facts(trainer, pl_module, self._note):
            _say(trainer, f"{f'{name}:':11}{text}")
        others = resumed_otherwise(trainer.datamodule, pl_module.trained_on)
        doubts = _data_doubts(trainer.datamodule)
        notes = [*(f"note: {text}" for text in (*others, *doubts)), *_limit_notes(trainer)]
        for note in filter(None, [_rate_note(trainer), *notes]):
            _say(trainer, note)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._say_epoch(trainer)
        self._start, self._scored = time.monotonic(), False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._scored = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # the training loss is known a moment later: the line is printed by the next hook
        self._epoch = trainer.current_epoch + 1
        self._line = f"epoch {self._epoch}{_of_epochs(trainer)}"

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._say_epoch(trainer)

    def _say_epoch(self, trainer: Any) -> None:
        if not self._line:
            return
        done = max(trainer.current_epoch - self._first, 1)
        self._note_best(trainer)
        names = ["train/loss", *(SCORES if self._scored else ())]
        known = trainer.callback_metrics
        values = {name: f"{float(known[name]):.4f}" for name in names if name in known}
        seconds = _duration(time.monotonic() - self._start)
        left = "".join(self._left(trainer, done))
        best = f"best so far: epoch {self._best_epoch}" if self._best_epoch else ""
        if _bar_of(trainer) is None:
            parts = [f"{name} {value}" for name, value in values.items()]
            told = [*parts, best, seconds, left]
            _say(trainer, f"{self._line}: {', '.join(filter(None, told))}")
        else:
            self._say_row(trainer, values, seconds, left)
        self._line = ""

    def _know_best(self, trainer: Any) -> None:
        """Remember the best epoch of earlier sittings, where a run goes on."""
        self._best = _best_checkpoint(trainer).best_model_path
        known = run_of(trainer).checkpoints if self._best else []
        found = [saved.epoch for saved in known if saved.path.name == Path(self._best).name]
        self._best_epoch = found[0] if found else 0

    def _note_best(self, trainer: Any) -> None:
        """Remember the epoch that has ended where it is the best one."""
        path = _best_checkpoint(trainer).best_model_path
        if path != self._best:
            self._best, self._best_epoch = path, self._epoch

    def _say_row(self, trainer: Any, values: dict[str, str], seconds: str, left: str) -> None:
        """One row of the table that grows above the bar of a terminal."""
        if not self._headed:
            _say(
                trainer,
                _table_row(
                    "epoch", dict(zip(_COLUMNS, _COLUMNS, strict=True)), "best", "time", "left"
                ),
            )
            self._headed = True
        epoch = (
            f"{self._epoch}/{trainer.max_epochs}" if trainer.max_epochs > 0 else str(self._epoch)
        )
        star = " *" if self._best_epoch == self._epoch else ""
        best = f"{self._best_epoch or '-'}{star}"
        _say(trainer, _table_row(epoch, values, best, seconds, left.removesuffix(" left")))

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
            again = f"epoch {last.epoch} is kept" if is_step() else f"go on with: {command}"
        print(f"interrupted in epoch {trainer.current_epoch + 1}; {again}", file=sys.stderr)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        best = _best_checkpoint(trainer)
        path, value = best.best_model_path, best.best_model_score
        if path:
            score = "" if value is None else f"{best.monitor} {float(value):.4f}"
            if self._best_epoch:
                score = f"epoch {self._best_epoch}{_of_epochs(trainer)}, {score}".rstrip(", ")
            print(f"best checkpoint:  {path}  ({score})")
        else:
            print(f"no best checkpoint: no validation found {best.monitor}")
        for board in (each for each in trainer.loggers if isinstance(each, TensorBoardLogger)):
            folder = Path(board.log_dir)
            command = shell_command("tensorboard", "--logdir", folder.parent)
            print(f"TensorBoard:      {folder}  (open: {command})")
        if path and not is_step():
            command = shell_command("lightning-seg", "test", "--ckpt_path", run_of(trainer).shown)
            print(f"next:             {command}")


def _training_facts(
    trainer: Any,
    pl_module: Any,
    precision_note: str,
) -> Iterator[tuple[str, str]]:
    """Tell what is trained, on what, with what."""
    data, config = trainer.datamodule, pl_module.hparams
    counts = ", ".join(f"{len(ids)} {split}" for split, ids in data.split.ids.items())
    without = len(data.source.ids) - sum(map(len, data.split.ids.values()))
    # of phantoms there are as many as one likes
    if without and not data.synthetic:
        counts += f", {without} in no split"
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


def _data_doubts(data: Any) -> Iterator[str]:
    """Doubts about the training and validation images, in words."""
    known = [data.lost_foreground(split) for split in ("train", "val")]
    for text in filter(None, known):
        yield f"{text}, so such masks count as empty; raise data.size"
    yield from filter(None, [data.covering_masks(), repeated_in_validation(data)])


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
    bar = _bar_of(trainer)
    if bar is not None:
        bar.print(text)
    else:
        print(text, flush=True)


def _bar_of(trainer: Any) -> Any:
    """The progress bar, where one is shown."""
    bar = trainer.progress_bar_callback
    return bar if bar is not None and bar.is_enabled else None


def _best_checkpoint(trainer: Any) -> BestCheckpoint:
    return next(c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint))


def _table_row(epoch: str, values: dict[str, str], best: str, seconds: str, left: str) -> str:
    scores = "".join(f"{values.get(name, '-'):>16}" for name in _COLUMNS)
    return f"{epoch:>9}{scores}{best:>9}{seconds:>10}{left:>13}"


def _of_epochs(trainer: Any) -> str:
    return f" of {trainer.max_epochs}" if trainer.max_epochs > 0 else ""


def _duration(seconds: float) -> str:
    """``8.3 s``, ``12 min``, ``1 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
