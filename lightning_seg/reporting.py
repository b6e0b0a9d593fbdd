"""What a run leaves behind: the score table on disk and on the terminal, the ledger of test looks."""

import csv
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

import lightning as L

from lightning_seg.evaluation import SCORES, ScoreTable, interval, per_image, pooled
from lightning_seg.inference.writer import checkpoint_label, run_dir


class ScoreReport(L.Callback):
    """After ``test`` and ``validate``: per-image table and summary on disk, scores with their conventions on the terminal."""

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._report(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module, "val")
        elif trainer.is_global_zero and not trainer.sanity_checking and trainer.progress_bar_callback is None:
            scores = [
                f"{key} {float(trainer.callback_metrics[key]):.4f}"
                for key in ("val/loss", "val/dice", "val/dice_image")
            ]
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {', '.join(scores)}", flush=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        last = max((run_dir(trainer) / "checkpoints").glob("last*.ckpt"), default=None)
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero and trainer.state.fn == "fit":
            again = f"go on with: lightning-seg fit --ckpt_path {last}" if last else "no epoch was finished"
            print(f"interrupted in epoch {trainer.current_epoch + 1}; {again}", file=sys.stderr)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        checkpoint: Any = trainer.checkpoint_callback
        if trainer.is_global_zero and checkpoint is not None and checkpoint.monitor and checkpoint.best_model_path:
            print(
                f"best checkpoint:  {checkpoint.best_model_path}  ({checkpoint.monitor} {float(checkpoint.best_model_score):.4f})\n"
                f"TensorBoard:      {run_dir(trainer)}  (open: tensorboard --logdir {run_dir(trainer).parent})"
            )

    @staticmethod
    def _report(trainer: Any, pl_module: Any, split: str) -> None:
        if not trainer.is_global_zero:
            return
        data, table = trainer.datamodule, pl_module.table
        folder = run_dir(trainer) / f"{split}-{data.protocol_name}" / checkpoint_label(trainer)
        table.write(folder / "scores.csv")
        facts = {
            "checkpoint": str(trainer.ckpt_path),
            "dataset": data.hparams["dataset"],
            "synthetic": data.synthetic,
            "protocol": data.protocol_name,
            "protocol_digest": data.protocol_digest,
            "protocol_leaks": data.leaks,
            "groups_known": data.grouped,
            "split": split,
            "images": len(table.ids),
            "size": data.hparams["size"] or "native",
            "scored_at": "network size",
            "threshold": 0.5,
            "encoder_weights": pl_module.origin,
            "scores": summarize(table),
        }
        if split == "test":
            facts["looks"] = _look(run_dir(trainer), facts)
        part = folder / "summary.part"
        part.write_text(json.dumps(facts, indent=1))
        os.replace(part, folder / "summary.json")
        print_scores(facts)
        print(f"per-image table:  {folder / 'scores.csv'}")
        if split == "test":
            print(
                f"looks at this test split by the runs of this folder, this one included: {facts['looks']} (ledger.csv)"
            )


def _look(run: Path, facts: dict[str, Any]) -> int:
    """Enter a test into the ledger of all runs; how often its test split has been scored, this time included."""
    ledger = (run.parent.parent if run.name.startswith("version_") else run) / "ledger.csv"
    new = not ledger.exists()
    with ledger.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["time", "protocol", "protocol_digest", "dataset", "checkpoint"])
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        writer.writerow([now, *(facts[key] for key in ("protocol", "protocol_digest", "dataset", "checkpoint"))])
    with ledger.open(newline="") as file:
        return sum(row["protocol_digest"] == facts["protocol_digest"] for row in csv.DictReader(file))


def summarize(table: ScoreTable) -> dict[str, Any]:
    """class -> score -> convention (``image``, ``pooled``) -> value and 95 % interval."""
    return {
        name: {
            score: {
                convention: {
                    "value": float(per_image(counts, score).mean() if convention == "image" else pooled(counts, score)),
                    "interval": interval(counts, score, convention),
                }
                for convention in ("image", "pooled")
            }
            for score in SCORES
        }
        for name, counts in ((name, table.of(name)) for name in table.classes)
    }


def print_scores(facts: dict[str, Any]) -> None:
    """The table of scores, every column named by its convention."""
    from rich.console import Console
    from rich.table import Table

    note = "[bold]SYNTHETIC data, says nothing about clinical performance[/]\n" if facts["synthetic"] else ""
    if facts["protocol_leaks"]:
        note += "[bold]this protocol LEAKS: images of one patient or sequence stand in several of its splits[/]\n"
    if not (facts["groups_known"] or facts["synthetic"]):
        note += "no patients or sequences are known for these data: each image was split as if it stood for itself\n"
    table = Table(
        title=f"{note}{facts['split']} scores: protocol {facts['protocol']} ({facts['protocol_digest']}), {facts['images']} images, "
        f"at network size {facts['size']}, threshold {facts['threshold']}",
        caption="95 % BCa bootstrap intervals over images; a 0/0 score counts 1 where truth and prediction are both empty, else 0",
    )
    for column in ("class", "score", "mean over images", "95 %", "pooled over pixels", "95 %"):
        table.add_column(column, justify="left" if column in ("class", "score") else "right")
    for name, scores in facts["scores"].items():
        for score, values in scores.items():
            cells = []
            for convention in ("image", "pooled"):
                low, high = values[convention]["interval"]
                cells += [f"{values[convention]['value']:.4f}", f"{low:.3f} - {high:.3f}"]
            table.add_row(name, score, *cells)
    Console(width=None if os.isatty(1) else 120).print(table)
