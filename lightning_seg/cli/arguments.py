"""What must be known of a command line before it is parsed, and what to say where it is wrong."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from lightning_seg.errors import InputError, near_match
from lightning_seg.files.shipped import find_shipped, shipped_names
from lightning_seg.files.trust import FLAG, check_code, check_places
from lightning_seg.options import meant_option, shell_command
from lightning_seg.runs import Run, find_checkpoint
from lightning_seg.runs.checkpoints import check_trust, read_checkpoint
from lightning_seg.runs.naming import PLACE, recipe_place
from lightning_seg.training.losses import SOFTMAX_TERMS, TERMS

LINKED = ("classes", "in_channels")  # of the model, set from the data
CLASS_FAILS = "Problem with given class_path"  # words of jsonargparse
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
    configs = tuple(find_shipped("recipe", path) for path in found["config"])
    values: dict[str, Any] = {}
    for path in configs:
        values |= recipe_place(path)
    values |= {key: found[key][-1] for key in PLACE if found[key]}
    name = values.get("name") or (configs[-1].stem if configs else None)
    checkpoint = _checkpoint(
        command, values.get("ckpt_path"), name, Path(values.get("runs") or "runs")
    )
    return Given(configs, checkpoint, name, values.get("runs"), FLAG in args)


def with_recipe_paths(args: Sequence[str]) -> list[str]:
    """The arguments with the path of each recipe in place of its name; InputError where there is
    none."""
    found = list(args)
    for position, arg in enumerate(found):
        option, equals, value = arg.partition("=")
        if _SHORT.get(option) != "config":
            continue
        if equals:
            found[position] = f"{option}={find_shipped('recipe', value)}"
        elif position + 1 < len(found):
            found[position + 1] = str(find_shipped("recipe", found[position + 1]))
    return found


def check_begun(command: str, args: Sequence[str], given: Given) -> None:
    """InputError where nobody said what is trained."""
    if command != "fit" or given.configs or given.checkpoint:
        return
    named = {arg[2:].partition("=")[0] for arg in args if arg.startswith("--")}
    network = any(name.partition(".")[0] == "model" for name in named)
    if network and named & {"data", "data.dataset"}:
        return
    raise InputError(
        f"fit needs a recipe, as in `lightning-seg fit -c quickstart`; those that ship are "
        f"{', '.join(shipped_names('recipe'))} (`lightning-seg recipes` says what each trains), "
        "`lightning-seg data adopt FOLDER` writes one for your own data, and without one name "
        "both --data.dataset and --model.architecture."
    )


def check_placed(command: str, args: Sequence[str]) -> None:
    """InputError where a recipe or checkpoint follows the command without its option."""
    if args[:1] and not args[0].startswith("-"):
        raise InputError(_without_option(args[0], command))


def _without_option(value: str, command: str = "fit") -> str:
    option, what = ("-c", "a recipe") if command == "fit" else ("--ckpt_path", "a checkpoint")
    line = shell_command("lightning-seg", command, option, value)
    return f"{value!r} stands there without its option; {what} is given as `{line}`."


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
    """jsonargparse's message on one line: what was meant, or the real cause."""
    text = " ".join(message.split())
    if "--> model.classes" in text:
        return (
            "model.classes are the names that the data give; classes: exclusive, which says that "
            "each pixel is of one of them, stands at the top level of a recipe (--classes)."
        )
    key = next(iter(re.findall(r'Parser key "([\w.]+)"', text)), "")
    if CLASS_FAILS in text:
        return failed_class(key, text)
    if section := re.search(r"Unable to load config '([^']*)'", text):
        return _no_section(key, section.group(1))
    literal = re.search(r"Expected a typing\.Literal\[(.*?)\]\.? Got value: (.*)", text)
    if literal:
        return _not_among(key, literal.group(2), re.findall(r"'([^']*)'", literal.group(1)))
    union = re.search(r"Subtypes: \[(.*)\] Errors:.*Given value: (.*)", text)
    if union and key == "model.loss":
        return _no_loss(union.group(2))
    if union:
        types = re.sub(r"<class '(\w+\.)*(\w+)'>", r"\2", union.group(1)).replace("typing.", "")
        return f"{key} does not take {union.group(2)!r}; give one of the types {types}."
    match = re.search(
        r"'(?:--)?([\w.\-/]+)'? (?:is )?not (?:accepted|expected)", text
    ) or re.search(r"[Uu]nrecognized arguments: (?:--)?([\w.\-/]+)", text)
    if not match:
        return text
    given = match.group(1)
    if re.search(rf"arguments: {re.escape(given)}", text):
        return _without_option(given)
    near = meant_option(given, {key for key in keys if "help" not in key})
    return f"there is no option {given!r}" + (f"; did you mean {near!r}?" if near else f": {text}")


def failed_class(key: str, message: str) -> str:
    """The real cause why a class that a recipe names by ``class_path`` cannot be made."""
    text = " ".join(message.split())
    name, cause = re.findall(rf"{CLASS_FAILS} '([^']+)': (.*?)(?= - |$)", text)[0]
    return f"{key or 'a class of the recipe'}: {name} cannot be made: {cause.strip()}"


def _no_section(key: str, given: str) -> str:
    """A name where a whole section of a recipe is read from a file."""
    first = {"model": "architecture", "data": "dataset"}.get(key)
    meant = f"did you mean --{key}.{first} {given}?" if first else "give the path of a YAML file."
    return (
        f"{key} is a section of a recipe, and there is no file {given!r} to read it from; {meant}"
    )


def _not_among(key: str, given: str, legal: Sequence[str]) -> str:
    near = near_match(given, legal)
    hint = f"did you mean {near!r}? Give" if near else "give"
    return f"{key} is {given!r}; {hint} one of {', '.join(legal)}."


def _no_loss(given: str) -> str:
    """A name where the terms of the loss stand with their weights."""
    terms = sorted([*TERMS, *SOFTMAX_TERMS])
    near = near_match(given, terms) or "dice"
    return (
        f"model.loss is {given!r}; give terms with their weights, such as "
        f"--model.loss '{{{near}: 1}}'; there are {', '.join(terms)}."
    )
