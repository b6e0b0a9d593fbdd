"""The last phase of a GPU session: one recipe through the command line, watched."""

import shutil
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from benchmarks._record import Record
from lightning_seg.runs.environment import ROOT

if TYPE_CHECKING:
    from benchmarks.gpu_session import Session

QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
PERIOD = 0.5  # seconds between two looks at the GPU
SMOKE_RECIPE = ROOT / "experiments" / "quickstart.yaml"
SMOKE = (
    *(
        "--data.size",
        "32",
        "--data.dataset_options",
        "{resolution: 32}",
        "--model.options",
        "{widths: [4, 8]}",
    ),
    *(
        "--trainer.max_epochs",
        "2",
        "--trainer.limit_train_batches",
        "2",
        "--trainer.limit_val_batches",
        "1",
    ),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
)


def recipe(session: "Session", record: Record, deadline: float) -> bool:
    """Fit until the end or, with a reserve for the test, until the deadline; then test the best epoch."""
    from lightning_seg.cli import run

    left = deadline - time.monotonic()
    reserve = min(60.0, 0.2 * left)
    place = [
        "--runs",
        session.runs,
        "--trainer.accelerator",
        "gpu" if session.device.type == "cuda" else "cpu",
    ]
    place += ["--trainer.devices", "1"]
    args = ["fit", *_what(session), *place, *_until(left - reserve), *session.overrides]
    record.update(args=args)
    start = time.monotonic()
    fit = run(args, [Watch(record)])
    trainer, best = fit.trainer, fit.trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    completed = trainer.current_epoch >= (trainer.max_epochs or 0)
    facts = {
        "completed": completed,
        "epochs": trainer.current_epoch,
        "max_epochs": trainer.max_epochs,
    }
    record.update(**facts, fit_seconds=round(time.monotonic() - start, 1), checkpoint=best)
    _keep(Path(trainer.log_dir or "") / "config.yaml", session.out)
    if best:
        _test(session, record, best, place)
    return completed


def _what(session: "Session") -> list[str]:
    return ["-c", str(SMOKE_RECIPE), *SMOKE] if session.smoke else ["-c", str(session.recipe)]


def _until(seconds: float) -> list[str]:
    minutes, rest = divmod(max(1, int(seconds)), 60)
    return ["--trainer.max_time", f"00:{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"]


def _test(session: "Session", record: Record, checkpoint: str, place: list[str]) -> None:
    from lightning_seg.cli import run

    start = time.monotonic()
    tested = run(["test", "--ckpt_path", checkpoint, *place])
    scores = {key: float(value) for key, value in tested.trainer.callback_metrics.items()}
    record.update(test_seconds=round(time.monotonic() - start, 1), test=scores)
    for file in Path(tested.trainer.log_dir or "").glob("test-*/*/*"):
        if file.suffix != ".parquet":  # the table of scores is there as text
            _keep(file, session.out)


def _keep(file: Path, folder: Path) -> None:
    if file.is_file():
        shutil.copyfile(file, folder / f"recipe-{file.name}")


def gpu_utilization() -> float | None:
    """Percent of the last sample period in which the GPU computed; None where nothing tells."""
    if not torch.cuda.is_available():
        return None
    try:
        return float(torch.cuda.utilization())
    except (
        Exception
    ):  # without NVIDIA's Python package, or an error of that, which is no RuntimeError
        pass
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=5)
        return float(done.stdout.splitlines()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


class Watch(L.Callback):
    """Writes a row per epoch: seconds, training images per second, utilisation of the GPU, its peak memory, validation scores."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.samples: list[float] = []
        self.ended = threading.Event()
        self.images = 0
        self.start = self.trained = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.record.update(sampled_every_seconds=PERIOD)
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while not self.ended.wait(PERIOD):
            value = gpu_utilization()
            if value is None:
                return
            self.samples.append(value)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start, self.trained, self.images = time.monotonic(), 0.0, 0
        self.samples.clear()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.images += len(batch["image"])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.trained = time.monotonic() - self.start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        samples = list(self.samples)
        scores = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        self.record.add(
            epoch=trainer.current_epoch,
            seconds=round(time.monotonic() - self.start, 3),
            train_seconds=round(self.trained, 3),
            train_images_per_second=round(self.images / self.trained, 1) if self.trained else None,
            gpu_percent=round(statistics.mean(samples), 1) if samples else None,
            peak_mib=torch.cuda.max_memory_allocated() // 2**20
            if torch.cuda.is_available()
            else None,
            **scores,
        )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.ended.set()
