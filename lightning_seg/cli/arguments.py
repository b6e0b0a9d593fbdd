"""What must be known of a command line before it is parsed, and what to say where it is wrong."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from lightning_seg.errors import InputError
from lightning_seg.files.trust import FLAG, check_code, check_places
from lightning_seg.runs import Run, find_checkpoint
from lightning_seg.runs.checkpoints import check_trust, read_checkpoint
from lightning_seg.runs.naming import PLACE, recipe_place

LINKED = ("classes", "in_channels")  # of the model, set from the data
_SHORT = {
    "-c": "config",
    "--config": "config",
    "--ckpt_path": "ckpt_path",
    "--name": "name",
    "--runs": "runs",
}


class Given(NamedTuple):
    """The few options that decide where a run lies and what it starts from, as the user gave
    them."""

    configs: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    name: str | None = None  # --name, or that of the recipe's file
    runs: str | None = None
    trust_code: bool = False


def peek(command: str, args: list[str]) -> Given:
    """Read those options from the command line and the recipes it names; `best` and `last` become
    files."""
    found: dict[str, list[str]] = {name: [] for name in _SHORT.values()}
    for position, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if option in _SHORT and (equals or position + 1 < len(args)):
            found[_SHORT[option]].append(value if equals else args[position + 1])
    configs = tuple(Path(path) for path in found["config"])
    values: dict[str, Any] = {}
    for path in configs:
        values |= recipe_place(path)
    values |= {key: found[key][-1] for key in PLACE if found[key]}
    name = values.get("name") or (configs[-1].stem if configs else None)
    checkpoint = _checkpoint(
        command, values.get("ckpt_path"), name, Path(values.get("runs") or "runs")
    )
    return Given(configs, checkpoint, name, values.get("runs"), FLAG in args)


def _checkpoint(
    command: str,
    given: str | None,
    name: str | None,
    runs: Path,
) -> Path | None:
    """The checkpoint file that ``--ckpt_path`` means."""
    if given in (None, "null"):
        if command == "fit":
            return None
        raise InputError(
            f"`{command}` needs --ckpt_path: a .ckpt file, the folder or name of a run, "
            "or `best` or `last` of the run that -c or --name names."
        )
    return find_checkpoint(given, name=name, runs=runs)


def base_config(command: str, given: Given) -> dict[str, Any]:
    """The configuration of the checkpoint, which lies under everything the command line
    says."""
    if given.checkpoint is None:
        return {}
    if command == "fit" and given.configs:
        return {}
    content = read_checkpoint(given.checkpoint)
    check_trust(content, given.checkpoint, given.trust_code)
    run = Run.holding(given.checkpoint)
    saved = content.get("datamodule_hyper_parameters", {})
    if command == "fit" and run is not None and run.config:
        return _found_config(run, given) | {
            "data": _found_data(run.config["data"], saved),
            "ckpt_path": None,
            "trust_code": False,
            "name": None,
            "runs": "runs",
        }
    data = {key: value for key, value in saved.items() if not key.startswith("_")}
    settings = content["hyper_parameters"].items()
    model = {k: v for k, v in settings if not k.startswith("_") and k not in LINKED}
    classes = "exclusive" if model.pop("exclusive", False) else "independent"
    quiet = {} if command == "fit" else {"verbose": False}
    data = _found_data(data, saved)
    seed = data.pop("seed", 42)
    return {"seed_everything": seed, "classes": classes, "model": model, "data": data, **quiet}


def _found_config(run: Run, given: Given) -> dict[str, Any]:
    """The configuration that lies in the folder of a run; InputError for what it may not say."""
    config = run.config
    for section in ("data", "model", "trainer"):
        if not isinstance(config.get(section), dict):
            raise InputError(f"{run.config_file} holds no section {section}:; restore the file.")
    check_code(config, run.config_file, given.trust_code)
    near = (run.folder, Path.cwd())
    check_places(config, run.config_file, near, given.trust_code)
    return config


def _found_data(
    data: Mapping[str, Any],
    saved: Mapping[str, Any],
) -> dict[str, Any]:
    """The options of the data that a run or checkpoint was trained with, as they hold here."""
    found = dict(data)
    # the data set's default protocol may have become another since
    found["protocol"] = found.get("protocol") or saved.get("protocol")
    # a cache is gone on with, and none is made where a file that was found says so
    if found.get("cache") and not Path(found["cache"]).is_dir():
        found["cache"] = None
    return found


class Parser(LightningArgumentParser):
    """No abbreviated options; one sentence per error, with the near match of a misspelt key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise InputError(_sentence(str(ex or message), _keys(self)))


def _keys(parser: Any, prefix: str = "") -> Iterator[str]:
    """All dotted keys that a parser knows, of its subcommands too."""
    for action in parser._actions:
        yield prefix + action.dest
        choices = getattr(action, "choices", None)
        if isinstance(choices, dict):
            for sub in choices.values():
                if hasattr(sub, "_actions"):
                    yield from _keys(sub)


def _sentence(message: str, keys: Iterable[str]) -> str:
    """jsonargparse's message on one line, with the near match of an unknown key."""
    text = " ".join(message.split())
    if "--> model.classes" in text:
        return (
            "model.classes are the names that the data give; classes: exclusive, which says that "
            "each pixel is of one of them, stands at the top level of a recipe (--classes)."
        )
    union = re.match(r'Parser key "([\w.]+)".*Subtypes: \[(.*)\] Errors:.*Given value: (.*)', text)
    if union:
        types = re.sub(r"<class '(\w+\.)*(\w+)'>", r"\2", union.group(2)).replace("typing.", "")
        return f"{union.group(1)} does not take {union.group(3)!r}; give one of the types {types}."
    match = re.search(
        r"'(?:--)?([\w.\-/]+)'? (?:is )?not (?:accepted|expected)", text
    ) or re.search(r"[Uu]nrecognized arguments: (?:--)?([\w.\-]+)", text)
    if not match:
        return text
    given = match.group(1)
    known = sorted({key for key in keys if "help" not in key})
    near = get_close_matches(given, known, n=1, cutoff=0.5) or get_close_matches(
        given.rpartition(".")[2], [key.rpartition(".")[2] for key in known], n=1, cutoff=0.5
    )
    return f"there is no option {given!r}" + (
        f"; did you mean {near[0]!r}?" if near else f": {text}"
    )
