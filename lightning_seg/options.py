"""How options are spelt in all commands: underscores, hyphens alike; ``~`` is the home folder."""

import argparse
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning_seg.errors import near_match, plain_name

VALIDATED = "val"  # --threshold: the one that `fit` chose
THRESHOLD_HELP = (
    f"a probability above it belongs to the mask (default 0.5); {VALIDATED}: the one with the "
    "highest pooled Dice on the validation split, which the checkpoint holds"
)
# plain name elsewhere -> the options that it may mean here, of which a command has one
_MEANT = {
    "amp": ("trainer.precision",),
    "arch": ("model.architecture",),
    "augmentation": ("data.augment",),
    "backbone": ("model.encoder",),
    "batch": ("data.batch_size", "batch_size"),
    "bs": ("data.batch_size", "batch_size"),
    "checkpoint": ("ckpt_path",),
    "ckpt": ("ckpt_path",),
    "data": ("input", "data.dataset"),
    "datadir": ("data.root", "root"),
    "datapath": ("data.root", "root"),
    "device": ("trainer.accelerator",),
    "epochs": ("trainer.max_epochs",),
    "fold": ("data.protocol",),
    "fp16": ("trainer.precision",),
    "gpus": ("trainer.devices", "devices"),
    "imagesize": ("data.size", "size"),
    "imgsize": ("data.size", "size"),
    "inputsize": ("data.size", "size"),
    "learningrate": ("model.lr",),
    "lossfunction": ("model.loss",),
    "maxsteps": ("trainer.max_steps",),
    "model": ("ckpt_path", "model.architecture"),
    "net": ("model.architecture",),
    "network": ("model.architecture",),
    "numepochs": ("trainer.max_epochs",),
    "out": ("output", "runs"),
    "outputdir": ("output", "runs"),
    "outdir": ("output", "runs"),
    "recipe": ("config",),
    "resume": ("ckpt_path",),
    "savedir": ("output", "runs"),
    "scheduler": ("model.schedule",),
    "seed": ("seed_everything", "data.seed"),
    "split": ("data.protocol",),
    "steps": ("trainer.max_steps",),
    "wd": ("model.weight_decay",),
    "weights": ("ckpt_path",),
    "workers": ("data.num_workers",),
}
_SECTIONS = ("model", "data", "trainer", "checkpoint")  # of keys that end alike, the first counts


class OptionParser(argparse.ArgumentParser):
    """argparse with this project's spelling, no abbreviated options, and one sentence per error."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | kwargs)
        self._given: Sequence[str] = ()

    def add_argument(self, *names: Any, **kwargs: Any) -> Any:
        return super().add_argument(*spell_options(names), **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is not None:
            args = spell_options(args)
            self._given = args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        known = self._option_string_actions
        given = [arg.partition("=")[0] for arg in self._given if arg.startswith("--")]
        misspelt = [arg for arg in given if arg not in known]
        if misspelt and "arguments are required" in message:
            # the misspelt one is what is missing
            message = f"unrecognized arguments: {misspelt[0]}"
        self.exit(2, f"error: {_with_near_match(message, known, self.prog)}\n")


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


def meant_option(given: str, known: Iterable[str]) -> str:
    """The option, or dotted key of a recipe, that a misspelt one stands for; empty where none is
    near.

    ``--epochs`` is ``trainer.max_epochs``, ``--lr`` is ``model.lr``.
    """
    keys = sorted(set(known), key=_by_section)
    plain = plain_name(given)
    last = plain_name(given.rpartition(".")[2])
    same = [key for key in keys if plain_name(key) == plain]
    told = [key for key in _MEANT.get(last, ()) if key in keys]
    ends = {plain_name(key.rpartition(".")[2]): key for key in reversed(keys)}
    alike = [ends[last]] if last in ends else []
    near = near_match(given, keys) or ends.get(near_match(last, ends), "")
    return [*same, *told, *alike, near][0]


def _by_section(key: str) -> tuple[int, str]:
    section = key.partition(".")[0]
    place = _SECTIONS.index(section) if section in _SECTIONS else len(_SECTIONS)
    return place, key


def _with_near_match(message: str, known: Iterable[str], command: str) -> str:
    """argparse's message on one line, with the near match of an unknown option or choice."""
    text = " ".join(message.split())
    choice = re.match(r"argument (.+?): invalid choice: '(.*)' \(choose from (.*)\)", text)
    if choice:
        where, given, listed = choice.groups()
        names = [name.strip(" '\"") for name in listed.split(",")]
        near = near_match(given, names)
        hint = f"did you mean {near!r}? There" if near else "there"
        where = command if "|" in where else where.split("/")[-1]
        return f"{where} has no {given!r}; {hint} are {', '.join(names)}."
    unknown = re.match(r"unrecognized arguments: (--[\w.]+)", text)
    if not unknown:
        return f"{text}; --help lists the options."
    options = [option.removeprefix("--") for option in known if option.startswith("--")]
    near = meant_option(unknown.group(1).removeprefix("--"), options)
    hint = f"did you mean '--{near}'?" if near else "--help lists the options."
    return f"there is no option {unknown.group(1)!r}; {hint}"
