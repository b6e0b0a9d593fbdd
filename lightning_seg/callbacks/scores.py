"""What a run leaves behind: the score table on disk and on the terminal, the ledger of test looks."""

import csv
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import lightning as L

from lightning_seg.callbacks.tensorboard import add_scores
from lightning_seg.evaluation.measures import CURVES, NSD_TOLERANCE
from lightning_seg.evaluation.probability import roc_auc
from lightning_seg.evaluation.summary import (
    summarize,
    summarize_empty,
    summarize_measures,
    summarize_strata,
)
from lightning_seg.files import write_whole
from lightning_seg.inference.pictures import run_dir, score_folder
from lightning_seg.reports.printing import print_scores


class ScoreReport(L.Callback):
    """After ``test`` and ``validate``: per-image table and summary on disk, scores with their conventions on the terminal."""

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._report(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module, "val")
        elif (
            trainer.is_global_zero
            and not trainer.sanity_checking
            and trainer.progress_bar_callback is None
        ):
            scores = [
                f"{key} {float(trainer.callback_metrics[key]):.4f}"
                for key in ("val/loss", "val/dice", "val/dice_image")
            ]
            print(
                f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {', '.join(scores)}",
                flush=True,
            )

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        last = max((run_dir(trainer) / "checkpoints").glob("last*.ckpt"), default=None)
        if (
            isinstance(exception, KeyboardInterrupt)
            and trainer.is_global_zero
            and trainer.state.fn == "fit"
        ):
            again = (
                f"go on with: lightning-seg fit --ckpt_path {last}"
                if last
                else "no epoch was finished"
            )
            print(f"interrupted in epoch {trainer.current_epoch + 1}; {again}", file=sys.stderr)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        checkpoint: Any = trainer.checkpoint_callback
        if (
            trainer.is_global_zero
            and checkpoint is not None
            and checkpoint.monitor
            and checkpoint.best_model_path
        ):
            print(
                f"best checkpoint:  {checkpoint.best_model_path}  ({checkpoint.monitor} {float(checkpoint.best_model_score):.4f})\n"
                f"TensorBoard:      {run_dir(trainer)}  (open: tensorboard --logdir {run_dir(trainer).parent})"
            )

    @staticmethod
    def _report(trainer: Any, pl_module: Any, split: str) -> None:
        if not trainer.is_global_zero:
            return
        folder, facts = score_folder(trainer, pl_module, split), _facts(trainer, pl_module, split)
        if split == "test":  # before its scores are written, so that a kill hides no look
            facts["looks"] = _look(run_dir(trainer), facts)
        pl_module.table.write(folder / "scores.csv")
        facts |= _scores(trainer, pl_module)
        write_whole(folder / "summary.json", json.dumps(facts, indent=1).encode())
        add_scores(trainer, facts)
        print_scores(facts)
        print(f"per-image table:  {folder / 'scores.csv'} (and scores.parquet)")
        if split == "test":
            print(
                f"looks at this test split by the runs of this folder, this one included: {facts['looks']} (ledger.csv)"
            )


def _facts(trainer: Any, pl_module: Any, split: str) -> dict[str, Any]:
    """What was scored, on what, and how."""
    data, table, native = trainer.datamodule, pl_module.table, pl_module.scorer.score_at == "native"
    return {
        "checkpoint": str(trainer.ckpt_path),
        "dataset": data.hparams["dataset"],
        "synthetic": data.synthetic,
        "protocol": data.protocol_name,
        "protocol_digest": data.protocol_digest,
        "protocol_leaks": data.leaks,
        "groups_known": data.grouped,
        "split": split,
        "images": len(table.ids),
        "groups": len(set(table.groups)),
        "resampled": f"{len(set(table.groups))} groups of images" if table.grouped else "images",
        "size": data.hparams["size"] or "native",
        "scored_at": "native size of each mask" if native else "network size",
        "threshold": 0.5,
        "inference": pl_module.scorer.inference,
        "encoder_weights": pl_module.origin,
    }


def _scores(trainer: Any, pl_module: Any) -> dict[str, Any]:
    """Everything that follows from the table, and the maxima over thresholds and ROC areas, which need all images at once."""
    table, found = pl_module.table, pl_module.scorer.measured
    names, families = table.classes, pl_module.scorer.families
    parts = ["all", "fov"] if table.fov_counts is not None else ["all"]
    maxima = {
        name: dict(zip(CURVES, curves.max(1).tolist(), strict=True))
        for name, curves in zip(names, found.curves, strict=True)
    }
    areas = {
        name: {part: roc_auc(found.roc[place, k]) for place, part in enumerate(parts)}
        for k, name in enumerate(names)
    }
    return {
        "scores": summarize(table, trainer.datamodule.hparams["batch_size"]),
        "measures": summarize_measures(table),
        "distance_unit": "pixels of the scored size",
        "nsd_tolerance": NSD_TOLERANCE,
        "maxima": maxima if "saliency" in families else {},
        "roc_auc": areas if "probability" in families else {},
        "strata": summarize_strata(table),
        "empty": summarize_empty(table),
    }


def _look(run: Path, facts: dict[str, Any]) -> int:
    """Enter a test into the ledger of all runs; how often its test split has been scored, this time included."""
    ledger = (run.parent.parent if run.name.startswith("version_") else run) / "ledger.csv"
    ledger.parent.mkdir(parents=True, exist_ok=True)
    new = not ledger.exists()
    with ledger.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["time", "protocol", "protocol_digest", "dataset", "checkpoint"])
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        writer.writerow(
            [now, *(facts[key] for key in ("protocol", "protocol_digest", "dataset", "checkpoint"))]
        )
    with ledger.open(newline="", encoding="utf-8") as file:
        return sum(
            row["protocol_digest"] == facts["protocol_digest"] for row in csv.DictReader(file)
        )
