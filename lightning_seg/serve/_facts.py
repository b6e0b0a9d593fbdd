"""What is known of the model that is served."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from lightning_seg import __version__
from lightning_seg.evaluation.summary import Summary
from lightning_seg.inference.predictor import Predictor
from lightning_seg.runs import Run
from lightning_seg.runs.cautions import run_cautions
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.scored_weights import replaced_weights
from lightning_seg.serve._answer import PARTS, page_colour
from lightning_seg.serve._limits import Limits

NOTICE = "For research only. Not a medical device: do not use it for diagnosis or treatment."


def facts(predictor: Predictor, checkpoints: Sequence[Path], limits: Limits) -> dict[str, Any]:
    """The facts of the (first) checkpoint: how it was trained and scored, how it is used here."""
    content = read_checkpoint(checkpoints[0])
    model, more = content["hyper_parameters"], content.get("lightning_seg", {})
    network, rule = predictor.network, predictor.rule
    return {
        "name": _model_name(checkpoints[0]),
        "architecture": model["architecture"],
        "encoder": model.get("encoder"),
        "options": model.get("options") or {},
        "classes": [
            {"name": name, "colour": page_colour(place)}
            for place, name in enumerate(predictor.classes)
        ],
        "size": network.trained.size,
        "crop": network.trained.crop,
        "channels": network.trained.in_channels,
        "dataset": network.trained.dataset,
        "protocol": more.get("protocol"),
        "trained_on": len(more.get("trained_on", ())) or None,
        "checkpoints": [file.name for file in checkpoints],
        "threshold": rule.threshold,
        "exclusive": rule.exclusive,
        "guarantee": [] if rule.guarantee is None else rule.guarantee.sentences(),
        "tta": network.tta,
        "postprocess": rule.postprocess,
        "precision": network.precision,
        "engine": network.engine,
        "device": str(network.device),
        "scores": list(_known_scores(predictor, checkpoints)),
        "limits": {"bytes": limits.bytes, "pixels": limits.pixels},
        "parts": PARTS,
        "notice": NOTICE,
        "cautions": list(dict.fromkeys(_cautions(checkpoints))),
        "version": __version__,
    }


def _model_name(checkpoint: Path) -> str:
    run = Run.holding(checkpoint)
    return run.name if run else checkpoint.stem


def _cautions(checkpoints: Sequence[Path]) -> Iterator[str]:
    """What must be said of each of them: synthetic data, leaks, an early end."""
    for file in checkpoints:
        yield from run_cautions(read_checkpoint(file), Run.holding(file))


def _known_scores(predictor: Predictor, checkpoints: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The scores of this checkpoint, used as it is here, by `test` and `validate`; those of test
    first."""
    run = Run.holding(checkpoints[0])
    here = {
        "tta": predictor.network.tta,
        "postprocess": predictor.rule.postprocess,
        "ensemble": [],
    }
    if run is None or len(checkpoints) > 1:
        return
    folders = [*run.score_folders("test"), *run.score_folders("val")]
    # those of test first
    for folder in folders:
        summary = Summary.read(folder)
        same = summary.threshold == predictor.rule.threshold and (summary.inference or here) == here
        other = Path(summary.checkpoint).name != checkpoints[0].name
        if summary.partial or not same or other or replaced_weights(summary, folder):
            continue
        about = {
            key: getattr(summary, key)
            for key in ("split", "dataset", "protocol", "images", "scored_at", "synthetic")
        } | {"leaks": summary.leaks}
        for label, scores in summary.scores.items():
            for score in ("dice", "iou"):
                for convention in ("image", "pooled"):
                    if convention in scores.get(score, {}):
                        found = scores[score][convention]
                        row = {
                            "class": label,
                            "score": score,
                            "convention": convention,
                            "value": found.value if isfinite(found.value) else None,
                        }
                        known = all(map(isfinite, found.interval))
                        yield about | row | {"interval": found.interval if known else None}
