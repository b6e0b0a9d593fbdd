"""What a run leaves behind: the score table on disk and on the terminal, the ledger of test
looks."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from lightning_seg.callbacks.tensorboard import add_scores
from lightning_seg.data.fingerprint import content_difference
from lightning_seg.errors import InputError
from lightning_seg.evaluation.findings import find_scores_of
from lightning_seg.evaluation.scored_table import table_digest
from lightning_seg.evaluation.summary import FILE, Summary
from lightning_seg.inference.pictures import other_precision, score_folder
from lightning_seg.options import shell_command
from lightning_seg.reports.printing import print_scores
from lightning_seg.runs.ledger import enter_look
from lightning_seg.runs.trained_on import changes_caution
from lightning_seg.training.run_place import run_of


class ScoreReport(L.Callback):
    """Writes after ``test`` and ``validate``: per-image table and summary on disk, scores with their
    conventions on the terminal."""

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._report(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module, "val")

    @staticmethod
    def _report(trainer: Any, pl_module: Any, split: str) -> None:
        if not trainer.is_global_zero:
            return
        summary = summary_of(trainer, pl_module, split)
        folder = report_folder(trainer, pl_module, split)
        summary = replace(summary, other_images=_other_images(summary, folder))
        if split == "test":  # before its scores are written, so that a kill hides no look
            facts = vars(summary) | {"content": summary.data["digest"]}
            looks = enter_look(run_of(trainer).root, facts)
            summary = replace(summary, looks=looks)
        pl_module.scored.table.write(folder / "scores.csv")
        summary = replace(summary, table_digest=table_digest(folder / "scores.csv"))
        summary.write(folder)
        add_scores(trainer, summary)
        print_scores(summary)
        print(f"per-image table:  {folder / 'scores.csv'} (and scores.parquet)")
        if split == "test":
            print(
                "looks at this test split by the runs of this folder, this one included: "
                f"{summary.looks} (ledger.csv)"
            )
            run = run_of(trainer)
            if run.checkpoints:
                print(f"next:             {shell_command('lightning-seg', 'report', run.shown)}")


def _other_images(summary: Summary, folder: Path) -> str:
    """What the summary says of its images, and that earlier scores of the folder are of others."""
    earlier = Summary.read(folder).data if (folder / FILE).is_file() else {}
    differs = content_difference(earlier, summary.data)
    since = f"since the scores that lay here before, they were replaced: {differs}"
    return "; ".join(filter(None, [summary.other_images, since * bool(differs)]))


def report_folder(trainer: Any, pl_module: Any, split: str) -> Path:
    """The folder of the scores of a finished test or validation, whole or partial."""
    folder = score_folder(trainer, pl_module, split)
    images = len(pl_module.scored.table.ids)
    return partial_folder(folder) if partial_reason(trainer, images, split) else folder


def partial_folder(folder: Path) -> Path:
    """The folder of the scores of a part of a split: no name under which a split's scores are looked
    for."""
    return folder.parent.with_name(f"partial-{folder.parent.name}") / folder.name


def summary_of(trainer: Any, pl_module: Any, split: str) -> Summary:
    """The summary of what was scored, on what and how, and of what follows from the table."""
    data, scored, scoring = trainer.datamodule, pl_module.scored, pl_module.scorer.scoring
    native, precision = scoring.score_at == "native", other_precision(trainer)
    images, trained = data.fingerprint(split), pl_module.trained_on
    corruption = data.corruption if split == "test" else None
    leaks = [data.split.leak_sentence, trained.repeated(images) if trained else ""]
    return Summary(
        checkpoint=str(trainer.ckpt_path),
        weights=pl_module.weights,
        dataset=data.hparams["dataset"],
        synthetic=data.synthetic,
        protocol=data.protocol_name,
        protocol_digest=data.protocol_digest,
        leaks="; ".join(filter(None, leaks)),
        groups_known=data.grouped,
        split=split,
        size=data.hparams["size"] or "native",
        scored_at="native size of each mask" if native else "network size",
        threshold_from=scoring.threshold_from,
        inference=scoring.inference | ({"precision": precision} if precision else {}),
        encoder_weights=pl_module.origin,
        data=images.to_json(),
        lost="" if native else data.lost_foreground(split),
        read_otherwise=trained.read_otherwise(images) if trained else "",
        corruption="" if corruption is None else corruption.words,
        changed=changes_caution(trained.changes) if trained else "",
        other_images=trained.other_images(data) if trained else "",
        partial=partial_reason(trainer, len(scored.table.ids), split),
        **find_scores_of(scored, scoring, data.hparams["batch_size"]),
    )


def partial_reason(trainer: Any, images: int, split: str) -> str:
    """Why these are the scores of a part of the split; empty where they are those of all of it.

    Raises:
        InputError: images are missing that no option left out.
    """
    expected = len(trainer.datamodule.ids(split))
    if images == expected:
        return ""
    asked = _asked_limit(trainer, split)
    if not asked or images < _limited_images(trainer, split, expected):
        raise InputError(
            f"the score table holds {images} of the {expected} {split} images, and no option left "
            "the others out; nothing is kept of it: see that as many processes started as "
            "trainer.devices and trainer.num_nodes say, and score again."
        )
    return f"{images} of {expected} images ({asked})"


def _limited_images(trainer: Any, split: str, expected: int) -> int:
    """The number of images that the limit of batches leaves, on any number of processes."""
    limit, size = _batch_limit(trainer, split), trainer.datamodule.hparams["batch_size"]
    batches = limit if isinstance(limit, int) else int(limit * math.ceil(expected / size))
    return min(expected, batches * size)


def _batch_limit(trainer: Any, split: str) -> int | float:
    limit: int | float = getattr(trainer, f"limit_{split}_batches")
    return limit


def _asked_limit(trainer: Any, split: str) -> str:
    """The option of the trainer that leaves images out, with its value; empty where none does."""
    limit = _batch_limit(trainer, split)
    if trainer.fast_dev_run:
        return f"fast_dev_run {trainer.fast_dev_run}"
    # it sets the limit of validation, too
    if split == "val" and trainer.overfit_batches:
        return f"overfit_batches {trainer.overfit_batches}"
    everything = isinstance(limit, float) and limit == 1.0  # 1 is one batch
    return "" if everything else f"limit_{split}_batches {limit}"
