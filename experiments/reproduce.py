"""``python -m experiments reproduce``: which published results can be reproduced with the data and
weights at hand, and do it."""

import argparse
import json
import textwrap
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml

from experiments import record, sweep
from experiments.campaign import Means, read_campaign, run_campaign
from experiments.facts import RECIPES, results_folder, slug
from experiments.fits import PASSES, Fit, plan, recipe_with, side_of, training_macs
from experiments.published import Evaluation, override_arguments, read_evaluations, unscored_systems
from hpo.weights import built_encoder
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole
from lightning_seg.models import create
from lightning_seg.models.frame.listing import count
from lightning_seg.models.frame.weights import find_weights
from lightning_seg.options import OptionParser, shell_command
from lightning_seg.runs.gpus import default_device
from lightning_seg.tables import count_text


def main(args: list[str]) -> None:
    """List the fits, or run those asked for and record them."""
    parser = _parser()
    options, more = parser.parse_known_args(args)
    more = [part for arg in more for part in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    if len(more) % 2 or any(
        not arg.startswith(("--model.", "--data.", "--trainer.")) for arg in more[::2]
    ):
        raise InputError(
            f"{' '.join(more)} is no option of reproduce; give --only, --fits-minutes, --run or keys of a recipe."
        )
    if options.campaign:
        means = Means(options.threads, options.nice)
        work = read_campaign(options.campaign, Path(options.runs))
        run_campaign(work, options.results, options.limit_minutes, means)
        return
    fits, refused = plan([*read_evaluations(options.results / "reported.csv"), *unscored_systems()])
    chosen = [fit for fit in fits if fnmatchcase(fit.point, options.only or "*")]
    if not chosen:
        raise InputError(
            f"--only {options.only!r} chooses none of the {len(fits)} fits; leave it out to see them."
        )
    rate = options.rate or measure_rate()
    reduced = {
        key[2:]: yaml.safe_load(text) for key, text in zip(more[::2], more[1::2], strict=True)
    }
    for fit in chosen:
        _look(fit, rate, reduced)
    ready = [fit for fit in chosen if not fit.missing and _short_enough(fit, options.fits_minutes)]
    _print(chosen, ready, {} if options.only else refused, options.fits_minutes)
    if options.run:
        _run(ready, options, more)


def _look(
    fit: Fit,
    rate: float,
    reduced: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Enter what is missing, or how long the fit takes; ``reduced``: keys of the recipe in another
    form of all."""
    config = recipe_with(fit.recipe, {**reduced, **fit.changes})
    data, model = config["data"], config["model"]
    try:
        images = _training_images(data["dataset"], data["protocol"])
        options = (model.get("options") or {}) | {"encoder": model.get("encoder")}
        if model.get("pretrained"):
            _weights(model["architecture"], json.dumps(options))
        _, macs = count(model["architecture"], side_of(config), **options)
    except InputError as error:
        fit.missing = str(error)
        return
    fit.minutes = training_macs(config, images, macs) / rate / 60


@cache
def _training_images(dataset: str, protocol: str) -> int:
    data = SegmentationDataModule(dataset=dataset, protocol=protocol)
    _ = data.source
    return len(data.ids("train"))


@cache
def _weights(architecture: str, options: str) -> None:
    """InputError where the weights that the encoder starts from are not on this machine."""
    if name := built_encoder(architecture, options):
        find_weights(name, download=False)


def measure_rate(seconds: float = 1.5) -> float:
    """Multiply-adds per second that this machine trains with, on a small U-Net: good for a rough
    estimate."""
    device = default_device()
    net, image = (
        create("unet", widths=[32, 64, 128]).to(device),
        torch.rand(4, 3, 128, 128, device=device),
    )
    _, macs = count("unet", 128, widths=[32, 64, 128])
    steps, start = -1, time.monotonic()
    while steps < 1 or time.monotonic() - start < seconds:
        net(image).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        steps += 1
        start = time.monotonic() if steps == 0 else start  # the first step warms up
    return PASSES * macs * len(image) * steps / (time.monotonic() - start)


def _short_enough(fit: Fit, limit: float | None) -> bool:
    return limit is None or (fit.minutes is not None and fit.minutes <= limit)


def _print(
    chosen: list[Fit],
    ready: list[Fit],
    refused: dict[str, list[Evaluation]],
    limit: float | None,
) -> None:
    lacks = [fit for fit in chosen if fit.missing]
    slow = [fit for fit in chosen if not fit.missing and fit not in ready]
    for title, fits in (
        (
            "can be reproduced here (minutes of one seed, a rough estimate from multiply-adds)",
            ready,
        ),
        (f"take longer than {limit:g} minutes" if limit else "", slow),
    ):
        if fits:
            print(f"\n{count_text(len(fits), 'fit')} {title}:")
            for fit in sorted(fits, key=lambda fit: fit.minutes or 0.0):
                print(f"  {fit.minutes:10,.0f} min  {fit.point:58}  published {fit.published}")
                recipe, changes = f"experiments/{fit.recipe}.yaml", override_arguments(fit.changes)
                command = shell_command("lightning-seg", "fit", "-c", recipe, *changes)
                print(f"                  {command}")
    reasons: dict[str, list[str]] = {}
    for fit in lacks:
        reasons.setdefault(fit.missing, []).append(fit.point)
    for reason, evaluations in refused.items():
        reasons.setdefault(reason, []).extend(f"{e.name} ({e.source})" for e in evaluations)
    if reasons:
        print("\ncannot be reproduced here:")
    for reason, names in reasons.items():
        print(f"  {reason}")
        print(
            textwrap.fill(
                "; ".join(dict.fromkeys(names)),
                118,
                initial_indent="      ",
                subsequent_indent="      ",
            )
        )


def _run(
    fits: list[Fit],
    options: argparse.Namespace,
    more: list[str],
) -> None:
    """Run the fits as one sweep per recipe, which goes on where it was left, and record what has
    been tested."""
    for recipe in dict.fromkeys(fit.recipe for fit in fits):
        study = "_".join(["reproduce", recipe, *filter(None, [slug(" ".join(more))])])
        models = [
            {"name": fit.name, "overrides": fit.changes} for fit in fits if fit.recipe == recipe
        ]
        file = Path(options.runs) / study / "sweep.yaml"
        content = {"recipe": str(RECIPES / f"{recipe}.yaml"), "models": models}
        write_whole(file, yaml.safe_dump(content, sort_keys=False).encode())
        limits = ["--limit-minutes", str(options.limit_minutes)] if options.limit_minutes else []
        workers = ["--workers", options.workers] if options.workers else []
        where = [
            "--sweep",
            str(file),
            "--study",
            study,
            "--runs",
            options.runs,
            "--seeds",
            options.seeds,
        ]
        sweep.main([*where, *limits, *workers, *more])
        record.main([str(file.parent), "--results", str(options.results), "--recipe", recipe])


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="python -m experiments reproduce",
        description="Which published results can be reproduced with the data and weights at hand; with --run, do it. Further keys "
        "of a recipe (--trainer.max_epochs 12) make a reduced form of all, which the leaderboard says.",
    )
    parser.add_argument(
        "--fits-minutes",
        type=float,
        metavar="M",
        help="only fits that take at most so long, each seed",
    )
    parser.add_argument(
        "--only", metavar="GLOB", help="only fits of such a name: 'dca_unet_kvasir/*'"
    )
    parser.add_argument(
        "--run", action="store_true", help="run them, resumably, test each once and record it"
    )
    parser.add_argument("--seeds", default="42,43,44", help="of each fit (default 42,43,44)")
    parser.add_argument(
        "--limit-minutes",
        type=float,
        metavar="M",
        help="after which no training is started, per recipe; of a campaign: when its training is "
        "stopped, to go on from its last epoch (0: only say what is left)",
    )
    parser.add_argument(
        "--campaign",
        type=Path,
        metavar="FILE",
        help="work through this list of full-length trainings, such as experiments/campaigns/papers.yaml",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="processor threads of a campaign (default: OMP_NUM_THREADS, or all cores)",
    )
    parser.add_argument(
        "--nice",
        type=int,
        default=10,
        help="how far a campaign gives way to other work, 0 to 19 (default 10)",
    )
    parser.add_argument("--workers", help="how many train at a time, as `sweep` takes it")
    parser.add_argument("--runs", default="runs", help="folder of all runs (default runs)")
    parser.add_argument(
        "--results",
        type=Path,
        default=results_folder(),
        help="where to record (default: experiments/results of a checkout, elsewhere ./results)",
    )
    parser.add_argument(
        "--rate", type=float, help="multiply-adds per second of this machine (default: measured)"
    )
    return parser
