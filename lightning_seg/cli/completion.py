"""``lightning-seg completion SHELL``: a script that completes verbs, options, recipes and networks.

The options are those of the commands' own parsers, and of ``fit`` the keys of a recipe, at the
time at which the script is written.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from lightning_seg.cli.light_imports import lean_lightning, load_command, stand_ins
from lightning_seg.cli.verbs import COMMAND_HOMES, RUNS, VERBS
from lightning_seg.errors import InputError
from lightning_seg.files.shipped import import_from_home, shipped_names
from lightning_seg.options import OptionParser

SHELLS = ("bash", "zsh", "tcsh")
_HOW = {
    "bash": "lightning-seg completion bash > ~/.local/share/bash-completion/completions/lightning-seg",
    "zsh": "lightning-seg completion zsh > DIR/_lightning-seg, where DIR is in $fpath",
    "tcsh": "lightning-seg completion tcsh > FILE, and source FILE in ~/.tcshrc",
}
# verb -> commands below it, each with a parser of its own
_BELOW = {
    "export": ("hf", "onnx", "program"),
    "hpo": ("run", "best", "export", "repeat", "plot", "serve"),
}


def main(args: list[str]) -> None:
    """Print the script for a shell; it is written in some seconds and works without Python."""
    lines = "\n".join(f"  {line}" for line in _HOW.values())
    parser = OptionParser(
        prog="lightning-seg completion",
        description="Completion of verbs, options, recipes and networks in a shell.",
        epilog=f"to install it:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(args).shell
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise InputError("completion needs shtab, which is absent; pip install shtab.") from error
    print(shtab.complete(_whole_parser(), shell=shell))


def _whole_parser() -> argparse.ArgumentParser:
    """One parser of all verbs with their options."""
    import_from_home()
    # before torch is there, which the keys of recipes need
    found = {verb: _parsers_of(verb, COMMAND_HOMES[verb]) for verb in VERBS}
    whole = argparse.ArgumentParser(prog="lightning-seg")
    verbs = whole.add_subparsers()
    for verb, about in (RUNS | VERBS).items():
        own = found.get(verb, {})
        parents = [own[""]] if "" in own else []
        parser = verbs.add_parser(
            verb, help=about.partition(":")[0], parents=parents, add_help=not parents
        )
        if verb in RUNS:
            _add_keys(parser, verb)
        elif not parents:
            below = parser.add_subparsers()
            for name, each in own.items():
                below.add_parser(name, help=name, parents=[each], add_help=False)
    return whole


def _add_keys(parser: argparse.ArgumentParser, verb: str) -> None:
    """Every key of a recipe as an option."""
    lean_lightning()
    from lightning_seg.cli.command_line import run_parser
    from lightning_seg.models.frame.registry import names

    known = {"config": shipped_names("recipe"), "model.architecture": names()}
    for action in run_parser(verb)._actions:
        typed = (each for each in action.option_strings if each.startswith("-"))
        options = [each for each in typed if not each.endswith((".help", "+"))]
        if options and action.dest != "help":
            choices: Any = known.get(action.dest, action.choices)
            parser.add_argument(*options, dest=action.dest, choices=choices)


class _ParserFoundError(Exception):
    """Carries a command's parser out of it."""


def _parsers_of(verb: str, home: str) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands below a verb, or of the verb itself under the name ``""``."""
    found = {}
    for name in _BELOW.get(verb, ("",)):
        parser = _found_parser(home, [name] if name else [])
        if parser is not None:
            found[name] = parser
    return found


def _found_parser(home: str, args: list[str]) -> argparse.ArgumentParser | None:
    """The parser that a command makes for its ``--help``."""
    lean = nullcontext() if "torch" in sys.modules else stand_ins()
    try:
        with lean, _help_raises():
            load_command(home)([*args, "--help"])
    except _ParserFoundError as found:
        return found.args[0]
    return None


@contextmanager
def _help_raises() -> Iterator[None]:
    """A parser that is to print its help raises itself."""

    def stop(parser: argparse.ArgumentParser, file: Any = None) -> NoReturn:
        raise _ParserFoundError(parser)

    kept = argparse.ArgumentParser.print_help
    argparse.ArgumentParser.print_help = stop  # type: ignore
    try:
        yield
    finally:
        argparse.ArgumentParser.print_help = kept  # type: ignore
