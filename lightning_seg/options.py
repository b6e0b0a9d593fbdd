"""How options are spelt in all commands: underscores, hyphens alike; ``~`` is the home folder."""

import argparse
import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

VALIDATED = "val"  # --threshold: the one that `fit` chose
THRESHOLD_HELP = (
    f"a probability above it belongs to the mask (default 0.5); {VALIDATED}: the one with the "
    "highest pooled Dice on the validation split, which the checkpoint holds"
)


class OptionParser(argparse.ArgumentParser):
    """argparse with this project's spelling, no abbreviated options, and one sentence per error."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | kwargs)

    def add_argument(self, *names: Any, **kwargs: Any) -> Any:
        return super().add_argument(*spell_options(names), **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is not None:
            args = spell_options(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {_with_near_match(message, self._option_string_actions)}\n")


def add_model_options(parser: argparse.ArgumentParser, ensemble: bool = False) -> None:
    """``--ckpt_path`` with what it may need.

    Args:
        ensemble: whether it may be given several times.
    """
    add = parser.add_argument
    models = "a .ckpt file, a run's folder or name, or best or last of -c or --name"
    more = "; several: an ensemble" if ensemble else ""
    add("--ckpt_path", action="append", required=True, metavar="X", help=models + more)
    add("--name", help="the run that best or last are of")
    add("-c", "--config", metavar="RECIPE", help="a recipe whose name is that of the run")
    add("--runs", metavar="DIR", help="folder of all runs (default runs)")
    add_trust_option(parser)


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """``--trust_code``; see `lightning_seg.files.trust`."""
    trust = "let a network or class outside lightning_seg that a file names run its code"
    parser.add_argument("--trust_code", action="store_true", help=trust)


def spell_options(args: Sequence[str]) -> list[str]:
    """``--repo-id X`` as ``--repo_id X``, ``--output=~/x`` as ``--output=/home/me/x``."""
    return [_spell(str(arg)) for arg in args]


def _spell(arg: str) -> str:
    name, equals, value = arg.partition("=")
    if not re.fullmatch(r"--[a-zA-Z][\w.-]*", name):
        return home_expanded(arg)
    return f"--{name[2:].replace('-', '_')}{equals}{home_expanded(value)}"


def shell_command(*words: object) -> str:
    """A command as it is typed: names with spaces, ``$`` or quotes in them stand in quotes."""
    return shlex.join(str(word) for word in words)


def home_expanded(value: Any) -> Any:
    """``~/x`` within a value of a configuration as the path it means."""
    if isinstance(value, dict):
        return {key: home_expanded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(home_expanded(part) for part in value)
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        return str(Path(value).expanduser())
    return value


def _with_near_match(message: str, known: Iterable[str]) -> str:
    """argparse's message on one line, with the near match of an unknown option."""
    text = " ".join(message.split())
    unknown = re.match(r"unrecognized arguments: (--[\w.]+)", text)
    if not unknown:
        return f"{text}; --help lists the options."
    near = get_close_matches(unknown.group(1), sorted(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "--help lists the options."
    return f"there is no option {unknown.group(1)!r}; {hint}"
