"""``lightning-seg``: the front door. It answers what it can without loading torch, and hands runs to `lightning_seg.cli`."""

import sys
from typing import Any

from lightning_seg import __version__
from lightning_seg.cli.light_imports import asks_help, lean_lightning, load_command, print_help
from lightning_seg.cli.verbs import COMMAND_HOMES, RUNS, VERBS
from lightning_seg.errors import InputError, one_sentence, open_streams, plain_name, unknown
from lightning_seg.files.shipped import import_from_home

_FIRST = {
    "lightning-seg fit -c quickstart": "train a small U-Net on made pictures, in minutes",
    "lightning-seg test --ckpt_path quickstart": "score it on the test split, with intervals",
    "lightning-seg report runs/quickstart": "the run as one page of HTML",
    "lightning-seg serve --ckpt_path quickstart": "drop pictures on a local page, see masks",
    "lightning-seg data adopt FOLDER": "your own pictures and masks: writes a recipe for fit",
}
# plain names elsewhere -> the verb that does it here
_MEANT = {
    "architectures": "models",
    "check": "data check",
    "datasets": "data list",
    "download": "data download",
    "eval": "test",
    "evaluate": "test",
    "infer": "predict",
    "inference": "predict",
    "list": "models",
    "networks": "models",
    "optimize": "hpo",
    "protocols": "data protocols",
    "run": "fit",
    "segment": "predict",
    "train": "fit",
    "tune": "hpo",
    "val": "validate",
}


def main(args: list[str] | None = None) -> None:
    """Run one command; bad input ends with one sentence on stderr and exit code 2."""
    args = list(sys.argv[1:] if args is None else args)
    if args and args[0] in RUNS and not asks_help(args):
        open_streams()
        lean_lightning()
        from lightning_seg.cli import main as run

        run(args)
        return
    with one_sentence():
        _answer(args)


def _answer(args: list[str]) -> None:
    """Whatever is no run."""
    if not args:
        print(_first_steps())
    elif args[0] in ("-h", "--help"):
        print(_help())
    elif args[0] == "--version":
        print(f"lightning_seg {__version__}")
    elif args[0] in RUNS:
        from lightning_seg.cli.run_help import print_run_help

        print_run_help(args)
    else:
        _run_verb(args[0], args[1:])


_TITLE = f"lightning_seg {__version__}: train, test, compare and use networks of the U-Net family"


def _first_steps() -> str:
    steps = [f"  {command:45}{text}" for command, text in _FIRST.items()]
    more = [
        "`lightning-seg --help` lists every command, `lightning-seg recipes` what else to train;",
        "each command has a --help of its own.",
    ]
    return "\n".join([_TITLE, "", *steps, "", *more])


def _help() -> str:
    lines = [f"  {name:12}{text}" for name, text in (RUNS | VERBS).items()]
    end = "`lightning-seg fit --help` lists the keys of a recipe."
    return "\n".join([_TITLE, "", *lines, "", end])


def _run_verb(name: str, args: list[str]) -> None:
    if name not in COMMAND_HOMES:
        raise unknown("command", name, [*RUNS, *VERBS], _MEANT.get(plain_name(name), ""))
    home = COMMAND_HOMES[name]
    if not home.startswith("lightning_seg."):
        import_from_home()
    if asks_help(args):
        print_help(home, args)
    else:
        _load(home)(args)


def _load(home: str) -> Any:
    """The command's function; InputError where what it needs is not installed."""
    try:
        return load_command(home)
    except ModuleNotFoundError as error:
        if error.name not in ("hpo", "experiments", "optuna"):
            raise
        raise InputError(
            f"this command needs {error.name}, which is absent; pip install 'lightning_seg[hpo]', "
            "or pip install -e '.[hpo]' in a checkout."
        ) from error


if __name__ == "__main__":
    main()
