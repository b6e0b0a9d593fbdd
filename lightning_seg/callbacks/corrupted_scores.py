"""``test --corrupt``: a test split scored once more under each corruption, beside its own scores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_seg.callbacks.scores import partial_reason, report_folder, summary_of
from lightning_seg.data.augment.corruptions import Corruption
from lightning_seg.errors import InputError
from lightning_seg.evaluation.robustness import Robustness, clean_scores
from lightning_seg.evaluation.scored_table import table_digest
from lightning_seg.inference.pictures import corrupted_folder
from lightning_seg.reports.robustness import print_robustness
from lightning_seg.runs.ledger import enter_look
from lightning_seg.training.run_place import RunPlace, run_of

_FAMILIES = ("probability",)  # measures beside the counts: distances would take most of the time


def score_corrupted(
    trainer: Any, module: Any, checkpoint: Path, corruptions: Sequence[Corruption]
) -> None:
    """Score a tested network's test split under each corruption, and keep and print what it found.

    All of it lies in a folder of its own, which no search for scores finds, and is one more look
    at the test split.

    Args:
        trainer: which has just tested the module.
    """
    data, clean = trainer.datamodule, module.scored.table
    if reason := partial_reason(trainer, len(clean.ids), "test"):
        raise InputError(f"corruptions are scored on a whole split, and this was {reason}.")
    folder = corrupted_folder(report_folder(trainer, module, "test"))
    summary = summary_of(trainer, module, "test")
    found = Robustness(
        checkpoint=str(checkpoint),
        dataset=summary.dataset,
        protocol=summary.protocol,
        protocol_digest=summary.protocol_digest,
        size=summary.size,
        seed=corruptions[0].seed,
        images=summary.images,
        resampled=summary.resampled,
        clean=clean_scores(clean),
        cautions=list(summary.cautions()),
    )
    if trainer.is_global_zero:
        facts = vars(summary) | {"content": summary.data["digest"]}
        found = replace(found, looks=enter_look(run_of(trainer).root, facts))
    # nothing of these tests is to be taken for one of the images as they are
    trainer.callbacks = [each for each in trainer.callbacks if isinstance(each, RunPlace)]
    trainer.loggers = []
    module.scorer.scoring = replace(module.scorer.scoring, families=_FAMILIES)
    for corruption in corruptions:
        data.corrupt(corruption)
        trainer.test(module, datamodule=data, ckpt_path=str(checkpoint), verbose=False)
        if trainer.is_global_zero:
            _keep(trainer, module, folder / corruption.label, found.looks)
        found = found.with_table(corruption, clean, module.scored.table)
    data.corrupt(None)
    if trainer.is_global_zero:
        print_robustness(found)
        print(f"scores under corruption:  {found.write(folder)} (tables beside it)")
        print(f"looks at this test split by the runs of this folder: {found.looks} (ledger.csv)")


def _keep(trainer: Any, module: Any, folder: Path, looks: int | None) -> None:
    module.scored.table.write(folder / "scores.csv")
    digest = table_digest(folder / "scores.csv")
    replace(summary_of(trainer, module, "test"), looks=looks, table_digest=digest).write(folder)
