"""``--help`` of ``fit``, ``validate`` and ``test``: the keys of a recipe on one screen, read from
their docstrings without torch; ``--help=trainer`` is the whole of one section."""

import inspect
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from textwrap import shorten
from typing import Any

from lightning_seg.cli.light_imports import lean_lightning, stand_ins
from lightning_seg.errors import unknown

_WIDTH = 110
_KEY, _DEFAULT = 25, 14  # columns
SECTIONS = ("data", "model", "trainer", "checkpoint", "all")
# set from the data, by other keys or by commands
_NO_KEYS = ("classes", "in_channels", "exclusive", "optimization", "seed", "calibration")
_PLACE = {
    "-c, --config": (
        "",
        "a recipe: a file, or the name of one that ships (`lightning-seg recipes`)",
    ),
    "--ckpt_path": ("", "where to go on: a file, a run's folder or name, or `last`"),
    "--name": ("the recipe's", "of the run"),
    "--runs": ("runs", "folder of all runs"),
    "--seed_everything": ("42", "of weights, order of images and augmentation"),
    "--classes": ("independent", "or exclusive: each pixel is of one class at most"),
    "--trust_code": ("", "run code outside lightning_seg that a recipe or checkpoint names"),
}
# of Lightning's trainer, the keys that recipes hold
_TRAINER = {
    "max_epochs": ("1000", "passes over the training images"),
    "devices": ("1", "GPUs, or processes on a CPU"),
    "accelerator": ("auto", "cpu, gpu or auto"),
    "precision": ("by device", "32-true, bf16-mixed, 16-mixed"),
    "callbacks": ("", "such as EarlyStopping, with class_path and init_args"),
    "logger": ("TensorBoard", "false, or another by class_path"),
    "gradient_clip_val": ("", "the highest norm of a gradient"),
    "accumulate_grad_batches": ("1", "batches for one step of the optimiser"),
    "limit_train_batches": ("1.0", "share, or number, of the batches of an epoch"),
    "deterministic": ("by device", "the same numbers again: true or warn"),
}
_CHECKPOINT = {
    "monitor": ("val/dice", "the validation score that chooses the best epoch"),
    "mode": ("max", "or min"),
}


def print_run_help(args: Sequence[str]) -> None:
    """Print the help of ``fit``, ``validate`` or ``test``.

    Args:
        args: the command and its arguments, ``--help`` or ``--help=SECTION`` among them.
    """
    command = args[0]
    section = next((arg.partition("=")[2] for arg in args if arg.startswith("--help=")), "")
    if not section:
        print("\n".join(_short_help(command)))
    elif section not in SECTIONS:
        raise unknown("section of --help", section, SECTIONS)
    else:
        lean_lightning()
        print(_section_help(command, section))


def _short_help(command: str) -> Iterator[str]:
    with stand_ins():
        from lightning_seg.cli.scoring_options import add_scoring_options
        from lightning_seg.data.datamodule import SegmentationDataModule
        from lightning_seg.training.module import SegmentationModule
        from lightning_seg.training.optimizer import Optimization
    given = "-c RECIPE" if command == "fit" else "--ckpt_path X"
    yield f"lightning-seg {command} {given} [--any.key value]"
    yield ""
    place = dict(_PLACE)
    if command != "fit":
        place["--ckpt_path"] = (
            "required",
            "a .ckpt file, a run's folder or name, `best` or `last`",
        )
    yield from _rows(place)
    if command != "fit":
        found = _Options()
        add_scoring_options(found)  # type: ignore[arg-type]
        yield from ("", "how it is scored", *_rows(found.rows))
        yield from ("", "data, model and trainer: keys as `lightning-seg fit --help` lists them")
    else:
        optimization = _arguments(Optimization)
        network = _arguments(SegmentationModule)
        yield from ("", "data: (--data.KEY)", *_rows(_arguments(SegmentationDataModule)))
        yield from ("", "model: (--model.KEY)", *_rows(network | optimization))
        yield from ("", "trainer: Lightning's (--trainer.KEY)", *_rows(_TRAINER))
        yield from ("", "checkpoint: (--checkpoint.KEY)", *_rows(_CHECKPOINT))
    yield ""
    yield f"--help={'|'.join(SECTIONS)} lists all of a section, with types."
    yield "Every key with its whole meaning: docs/reference, built by `make docs`."


class _Options:
    """Takes options as argparse does, and keeps name, default and help."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, str]] = {}

    def add_argument(self, name: str, default: Any = None, help: str = "", **_: Any) -> None:
        self.rows[name] = ("" if default in ("", []) else str(default), help)


def _arguments(owner: type) -> dict[str, tuple[str, str]]:
    """Default and meaning by argument of a constructor."""
    from docstring_parser import parse

    meanings: dict[str, str] = {}
    for parameter in parse(inspect.getdoc(owner) or "").params:
        for name in parameter.arg_name.split(", "):
            meanings[name] = " ".join((parameter.description or "").split()).replace("``", "")
    found = {}
    for name, each in inspect.signature(owner).parameters.items():
        if name not in _NO_KEYS:
            default = "" if each.default in (None, each.empty) else str(each.default)
            found[name] = (default, meanings.get(name, ""))
    return found


def _rows(keys: dict[str, tuple[str, str]]) -> Iterator[str]:
    for key, (default, meaning) in keys.items():
        head = f"  {key:{_KEY}} {default:{_DEFAULT}} "
        yield head + shorten(meaning, _WIDTH - len(head), placeholder=" ...")


def _section_help(command: str, section: str) -> str:
    """One section of the parser's own help, or all of it."""
    from lightning_seg.cli.command_line import run_parser

    parser = run_parser(command)
    parser.usage, parser.description = SUPPRESS, None
    if section != "all":
        parser._action_groups = [
            group
            for group in parser._action_groups
            if any(each.dest.startswith(f"{section}.") for each in group._group_actions)
        ]
        for group in parser._action_groups:
            group.title = section
    return parser.format_help()
