"""The options of `test` and `validate` that say how is scored."""

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.cli import LightningArgumentParser

from lightning_seg.data.augment.corruptions import CORRUPTIONS, Corruption, all_corruptions
from lightning_seg.errors import unknown
from lightning_seg.evaluation.measures import FAMILIES
from lightning_seg.evaluation.scoring import Scoring
from lightning_seg.inference.options import ENGINES
from lightning_seg.inference.postprocess import STEPS
from lightning_seg.inference.tta import PASSES
from lightning_seg.options import THRESHOLD_HELP, VALIDATED
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.chosen_threshold import CHOSEN_ON_VAL, resolve_threshold


def add_scoring_options(parser: LightningArgumentParser) -> None:
    """Those beside data and trainer."""
    add = parser.add_argument
    at = "score at the network's size, or with probabilities scaled to the native size of each mask"
    add("--score_at", type=Literal["network", "native"], default="network", help=at)
    some = ", ".join(FAMILIES)
    families = f"families of measures beside the counts: all, none, or some of [{some}]"
    add("--measures", type=str | list[str], default="all", help=families)
    add("--tta", type=str, default="none", help=f"test-time augmentation: {', '.join(PASSES)}")
    add("--threshold", type=float | str, default=0.5, help=THRESHOLD_HELP)
    steps = f"what follows the threshold, such as fill_holes,min_area=50, of {', '.join(STEPS)}"
    add("--postprocess", type=str, default="", help=steps)
    engine = f"what computes on a CPU: {', '.join(ENGINES)}"
    add("--engine", type=str, default="torch", help=engine)
    more = "further models, whose probabilities are averaged"
    add("--ensemble", type=str | list[str], default=[], help=more)


def add_corruption_options(parser: LightningArgumentParser) -> None:
    """Those of `test` alone."""
    add = parser.add_argument
    kinds = (
        "score the test images once more under corruptions of five severities, all or some of "
        f"[{', '.join(CORRUPTIONS)}]; the results lie apart from the scores"
    )
    add("--corrupt", type=str | list[str], default=[], help=kinds)
    add("--corrupt_seed", type=int, default=0, help="of the corruptions; not that of the training")


def corruptions_of(config: Any) -> list[Corruption]:
    """What ``--corrupt`` names, by kind and severity."""
    named = config.corrupt
    kinds = [each.strip() for each in named.split(",")] if isinstance(named, str) else named
    return all_corruptions(kinds, config.corrupt_seed)


def scoring_of(config: Any) -> Scoring:
    """The parsed options as a value."""
    checkpoints = [Path(config.ckpt_path), *(find_checkpoint(each) for each in ensemble_of(config))]
    return Scoring(
        score_at=config.score_at,
        families=_families(config.measures),
        tta=config.tta,
        postprocess=config.postprocess,
        threshold=resolve_threshold(config.threshold, checkpoints),
        threshold_from=CHOSEN_ON_VAL if config.threshold == VALIDATED else "",
        ensemble=ensemble_of(config),
        engine=config.engine,
    )


def ensemble_of(config: Any) -> tuple[str, ...]:
    """The further models that ``--ensemble`` names."""
    named = config.ensemble
    return (named,) if isinstance(named, str) else tuple(named)


def _families(given: str | list[str]) -> tuple[str, ...]:
    """The families of measures that ``--measures`` names."""
    sets = {"all": tuple(FAMILIES), "none": ()}
    named = sets.get(given, (given,)) if isinstance(given, str) else tuple(given)
    for name in named:
        if name not in FAMILIES:
            raise unknown("family of measures", name, [*FAMILIES, *sets])
    return named
