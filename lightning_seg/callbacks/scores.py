"""What a run leaves behind: the score table on disk and on the terminal, the ledger of test looks."""

import csv
import datetime
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from lightning_seg.callbacks.tensorboard import add_scores
from lightning_seg.evaluation import ScoreTable
from lightning_seg.evaluation.estimates import (
    count_empty,
    estimate_measures,
    estimate_scores,
    estimate_strata,
)
from lightning_seg.evaluation.measures import CURVES, NSD_TOLERANCE
from lightning_seg.evaluation.probability import roc_auc
from lightning_seg.evaluation.summary import Numbers, Summary
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
        summary = _summary(trainer, pl_module, split)
        folder = score_folder(trainer, pl_module, split)
        if summary.partial:
            folder = partial_folder(folder)
        if split == "test":  # before its scores are written, so that a kill hides no look
            summary = replace(summary, looks=_look(run_dir(trainer), summary))
        pl_module.table.write(folder / "scores.csv")
        summary.write(folder)
        add_scores(trainer, summary)
        print_scores(summary)
        print(f"per-image table:  {folder / 'scores.csv'} (and scores.parquet)")
        if split == "test":
            print(
                "looks at this test split by the runs of this folder, this one included: "
                f"{summary.looks} (ledger.csv)"
            )


def partial_folder(folder: Path) -> Path:
    """Where scores of a part of a split lie: no name under which a split's scores are looked for."""
    return folder.parent.with_name(f"partial-{folder.parent.name}") / folder.name


def _summary(trainer: Any, pl_module: Any, split: str) -> Summary:
    """What was scored, on what and how, and what follows from the table."""
    data, table, scorer = trainer.datamodule, pl_module.table, pl_module.scorer
    groups = len(set(table.groups))
    native = scorer.score_at == "native"
    maxima, areas = _over_thresholds(table, scorer)
    return Summary(
        checkpoint=str(trainer.ckpt_path),
        dataset=data.hparams["dataset"],
        synthetic=data.synthetic,
        protocol=data.protocol_name,
        protocol_digest=data.protocol_digest,
        leaks=data.split.leak_sentence,
        groups_known=data.grouped,
        split=split,
        images=len(table.ids),
        groups=groups,
        resampled=f"{groups} groups of images" if table.grouped else "images",
        size=data.hparams["size"] or "native",
        scored_at="native size of each mask" if native else "network size",
        inference=scorer.inference,
        encoder_weights=pl_module.origin,
        partial=_partial(trainer, len(table.ids), len(data.ids(split)), split),
        scores=estimate_scores(table, data.hparams["batch_size"]),
        measures=estimate_measures(table),
        nsd_tolerance=NSD_TOLERANCE,
        maxima=maxima,
        roc_auc=areas,
        strata=estimate_strata(table),
        empty=count_empty(table),
    )


def _partial(trainer: Any, images: int, expected: int, split: str) -> str:
    """Why these are the scores of a part of the split; empty where they are those of all of it."""
    if images == expected:
        return ""
    limit = trainer.limit_test_batches if split == "test" else trainer.limit_val_batches
    everything = isinstance(limit, float) and limit == 1.0  # 1 is one batch
    asked = "" if everything else f"limit_{split}_batches {limit}"
    asked = f"fast_dev_run {trainer.fast_dev_run}" if trainer.fast_dev_run else asked
    return f"{images} of {expected} images ({asked or 'the others reached no score table'})"


def _over_thresholds(table: ScoreTable, scorer: Any) -> tuple[Numbers, Numbers]:
    """The maxima over thresholds and the ROC areas of each class, which need all images at once."""
    found, parts = scorer.measured, ["all", "fov"] if table.fov_counts is not None else ["all"]
    maxima, areas = {}, {}
    for k, name in enumerate(table.classes):
        highest = found.curves[k].max(1).tolist()
        maxima[name] = dict(zip(CURVES, highest, strict=True))
        areas[name] = {part: roc_auc(found.roc[place, k]) for place, part in enumerate(parts)}
    with_maxima, with_areas = ("saliency" in scorer.families, "probability" in scorer.families)
    return maxima if with_maxima else {}, areas if with_areas else {}


def _look(run: Path, summary: Summary) -> int:
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
            [
                now,
                summary.protocol,
                summary.protocol_digest,
                summary.dataset,
                summary.checkpoint,
            ]
        )
    with ledger.open(newline="", encoding="utf-8") as file:
        return sum(
            row["protocol_digest"] == summary.protocol_digest for row in csv.DictReader(file)
        )
