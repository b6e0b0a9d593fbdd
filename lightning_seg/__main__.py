"""``lightning-seg``: the front door. It answers what it can without loading torch, and hands runs to `lightning_seg.cli`."""

import sys
from importlib import import_module
from typing import Any

from lightning_seg import __version__
from lightning_seg.cli.light_imports import asks_help, lean_lightning, print_help
from lightning_seg.errors import InputError, one_sentence, unknown
from lightning_seg.options import OptionParser

RUNS = {
    "fit": "train: lightning-seg fit -c experiments/quickstart.yaml [--any.key value]",
    "validate": "score a checkpoint on the validation split: lightning-seg validate --ckpt_path X",
    "test": "score a checkpoint on the test split: lightning-seg test --ckpt_path X",
}
VERBS = {
    "predict": "masks of the test split, or of any files: lightning-seg predict --ckpt_path X [--input Y --output DIR]",
    "models": "list the networks, their options and their costs: lightning-seg models [name] [--counts]",
    "profile": "parameters, multiply-adds, memory and time of networks: lightning-seg profile unet pam_unet:attention=none",
    "cka": "how alike the layers of one or two trained networks are: lightning-seg cka X [Y] --output cka.png",
    "calibrate": "probabilities that mean what they say: lightning-seg calibrate --ckpt_path X",
    "export": "a checkpoint as a model that others load: lightning-seg export hf|onnx|program --help",
    "push": "upload a folder that `export hf` wrote: lightning-seg push DIR --repo_id user/name",
    "doctor": "what of this machine would break or slow a run, on one page: lightning-seg doctor",
    "data": "protocols, check, show, prepare and download data: lightning-seg data --help",
    "compare": "the difference of two runs, image by image: lightning-seg compare runs/a runs/b",
    "score": "masks that any tool wrote, scored as test does: lightning-seg score DIR --dataset kvasir_seg --name X",
    "report": "one run as a page of HTML: lightning-seg report runs/demo",
    "serve": "a local web page that predicts the pictures dropped on it: lightning-seg serve --ckpt_path X",
    "audit": "which conventions published figures can be: lightning-seg audit --dice .9411 --iou .8889 [--n_images 100]",
    "hpo": "tune a recipe, and what a study found: lightning-seg hpo run|best|export|repeat|plot --help",
    "sweep": "train and test a grid: lightning-seg sweep --sweep experiments/sweeps/unet_a.yaml",
    "record": "keep a tested run among the results: lightning-seg record runs/demo",
    "leaderboard": "recorded results as tables and plots: lightning-seg leaderboard",
    "reproduce": "published results run again: lightning-seg reproduce --help",
}

_HOMES = {
    "audit": "lightning_seg.evaluation.audit",
    "calibrate": "lightning_seg.analysis.calibrate",
    "cka": "lightning_seg.analysis.cka",
    "compare": "lightning_seg.reports.comparison",
    "data": "lightning_seg.data.__main__",
    "doctor": "lightning_seg.analysis.doctor",
    "export": "lightning_seg.export.__main__",
    "hpo": "hpo.__main__",
    "leaderboard": "experiments.leaderboard.__main__",
    "record": "experiments.record",
    "reproduce": "experiments.reproduce",
    "sweep": "experiments.sweep",
    "predict": "lightning_seg.inference.__main__",
    "profile": "lightning_seg.analysis.profiling",
    "push": "lightning_seg.export.push",
    "report": "lightning_seg.reports.run_page",
    "score": "lightning_seg.reports.scored_files",
    "serve": "lightning_seg.serve",
}  # modules whose `main` takes the arguments after the verb


def main(args: list[str] | None = None) -> None:
    """Run one command; bad input ends with one sentence on stderr and exit code 2."""
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        print(_help())
    elif args[0] == "--version":
        print(f"lightning_seg {__version__}")
    elif args[0] in RUNS:
        lean_lightning()
        from lightning_seg.cli import main as run

        run(args)
    else:
        with one_sentence():
            _run_verb(args[0], args[1:])


def _help() -> str:
    lines = [
        f"lightning_seg {__version__}: train, test, compare and use networks of the U-Net family",
        "",
    ]
    for name, text in (RUNS | VERBS).items():
        lines.append(f"  {name:12}{text}")
    return "\n".join([*lines, "", "`lightning-seg fit --help` lists every key of a recipe."])


def _run_verb(name: str, args: list[str]) -> None:
    if name == "models":
        _models(args)
    elif name not in _HOMES:
        raise unknown("command", name, [*RUNS, *VERBS])
    elif asks_help(args):
        print_help(_HOMES[name], args)
    else:
        _import(_HOMES[name]).main(args)


def _import(home: str) -> Any:
    """The module; InputError where it is of the repository and not of the installed package."""
    try:
        return import_module(home)
    except ModuleNotFoundError as error:
        if error.name not in ("hpo", "experiments", "optuna"):
            raise
        raise InputError(
            f"this command needs {error.name}, which is absent; start it from a checkout of the "
            "repository, with pip install -e '.[hpo]'."
        ) from error


def _models(args: list[str]) -> None:
    from lightning_seg.models.frame import listing

    parser = OptionParser(
        prog="lightning-seg models", description="List networks, or the options of one."
    )
    parser.add_argument("name", nargs="?", help="an architecture")
    parser.add_argument(
        "--counts",
        action="store_true",
        help="parameters and multiply-adds over the four encoders of UNet-A",
    )
    parser.add_argument("--size", type=int, default=256, help="side of the image for --counts")
    parser.add_argument(
        "--encoders", metavar="GLOB", help="list timm's encoders that match, such as 'resnet*'"
    )
    options = parser.parse_args(args)
    if options.encoders:
        text = listing.encoders(options.encoders)
    elif options.name:
        text = listing.describe_network(options.name)
    else:
        text = listing.overview(options.size if options.counts else None)
    print(text)


if __name__ == "__main__":
    main()
