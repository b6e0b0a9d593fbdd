"""``lightning-seg cv``: a recipe trained and tested on every fold of its data, as one result.

    lightning-seg cv -c my.yaml --folds 5
    lightning-seg cv -c my.yaml --leave centre

Each fold is a run, ``runs/<name>/fold_1`` and so on, in a process of its own: `fit`, then `test` of
its best checkpoint. The same command goes on after whatever ended it. The test scores of all folds
are pooled: each image counts once, as it was scored by the network that was not trained on it.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_seg.cli.dry_fit import DryFit
from lightning_seg.data.rules import column_values_of, resolve
from lightning_seg.data.sources.base import Source, source_class
from lightning_seg.data.splits import Split, check
from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import Summary
from lightning_seg.evaluation.volumes import VOLUME_FILE
from lightning_seg.files.steps import run_step
from lightning_seg.options import (
    VALIDATED,
    OptionParser,
    add_trust_option,
    shell_command,
    spell_options,
)
from lightning_seg.reports.printing import print_scores, print_volumes
from lightning_seg.runs.cross_validation import CrossValidation, Fold
from lightning_seg.runs.run import new_run
from lightning_seg.tables import count_text
from lightning_seg.training.termination import SIGTERM_CODE, Terminated, ended_by_sigterm

Step = Callable[[list[str]], int]
_CTRL_C_CODE = 128 + signal.SIGINT
GROUP = "group"  # --leave: each group of the data set, where no column has that name
_TEST_OPTIONS = ("score_at", "tta", "threshold", "postprocess")
_OWN = ("--name", "--data.protocol", "--ckpt_path")  # of `fit`, which this command says itself
# of data and trainer what decides a training; model.*, but for these, too
_DECIDING = ("seed_everything", "classes", "checkpoint.monitor", "checkpoint.mode")
_TRAINER = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val")
_NOT_DECIDING = {
    "model.compile",
    "model.activation_checkpointing",
    "data.root",
    "data.cache",
    "data.num_workers",
    "data.protocol",
}


def main(args: Sequence[str], step: Step | None = None) -> None:
    """``lightning-seg cv``; see ``lightning-seg cv --help``.

    Args:
        step: runs one `fit` or `test` and returns its exit status; None: in a process of its own.
    """
    try:
        with ended_by_sigterm():
            _cross_validate(args, step or run_step)
    except (KeyboardInterrupt, Terminated) as ended:
        again = shell_command("lightning-seg", "cv", *args)
        print(f"the cross-validation was interrupted; go on with: {again}", file=sys.stderr)
        by_hand = isinstance(ended, KeyboardInterrupt)
        raise SystemExit(_CTRL_C_CODE if by_hand else SIGTERM_CODE) from None


def _cross_validate(args: Sequence[str], step: Step) -> None:
    given, fit = _parser().parse_known_args(spell_options(args))
    _check_options(given, fit)
    if given.trust_code:
        fit.append("--trust_code")
    validation = _opened(given, fit, args)
    places = _chosen(given.only, len(validation.folds))
    print(f"cross-validation:  {validation.folder} ({validation.protocol})", flush=True)
    for place in places:
        _do_fold(validation, place, fit, given, step)
    _show(validation)


def _check_options(given: argparse.Namespace, fit: Sequence[str]) -> None:
    if (given.folds is None) == (given.leave is None):
        raise InputError("a cross-validation takes --folds K or --leave COLUMN, one of them.")
    for option in _OWN:
        if any(word.partition("=")[0] == option for word in fit):
            raise InputError(
                f"cv gives {option} to each fold itself; leave it out"
                + (" (the same command goes on by itself)." if option == "--ckpt_path" else ".")
            )


def _opened(given: argparse.Namespace, fit: Sequence[str], args: Sequence[str]) -> CrossValidation:
    """The cross-validation that the options ask for, which begins or goes on.

    Raises:
        InputError: another one lies in its folder.
    """
    # the folds take the place of all other splits, those of the data's own table among them
    dry = DryFit.of([*fit, "--data.protocol", "test-only"])
    protocol = f"{given.folds}-fold" if given.folds is not None else f"leave-each-{given.leave}"
    if given.threshold != 0.5 and dry.config["fit"].classes == "exclusive":
        raise InputError(
            f"--threshold is {given.threshold}, but the classes are exclusive: a pixel is of the "
            "most probable one; leave it out."
        )
    source = dry.datamodule.source
    splits = _splits(given, dry, source)
    root = Path(dry.config["fit"].runs).expanduser()
    own = given.name or f"{dry.given.name or dry.config['fit'].model.architecture}-{protocol}"
    run = new_run(root, own)
    tested = {id for split in splits for id in split.ids["test"]}
    validation = CrossValidation(
        run.root / own,
        run.root,
        own,
        protocol.replace("/", "_"),
        tuple(Fold(split.name, split.digest) for split in splits),
        len(set(source.ids) - tested),
        _settings(dry.config["fit"].as_dict()),
        _for_all_folds(args),
    )
    before = CrossValidation.open(validation.folder, validation.root)
    if before is None:
        if run.version != "version_0":
            raise InputError(
                f"{validation.folder} holds a run; give the cross-validation another --name."
            )
        print(_division_text(dry, source, splits, validation.untested))
        validation.write()
        return validation
    if difference := _difference(before, validation):
        raise InputError(
            f"{before.folder} holds a cross-validation with {difference}; give this one another "
            "--name."
        )
    return before


def _splits(given: argparse.Namespace, dry: DryFit, source: Source) -> list[Split]:
    """The split of each fold, checked against the data."""
    if given.folds is not None:
        count = given.folds
        if count < 3:
            raise InputError(f"--folds is {count}; give 3 or more, as the next fold validates.")
        names = [f"fold-{place}-of-{count}" for place in range(1, count + 1)]
    else:
        names = [f"leave-{each}" for each in _values(given.leave, dry, source)]
    kind: Any = source_class(dry.datamodule.hparams["dataset"])
    found = []
    for name in names:
        rule = resolve(name, kind)
        split = rule if isinstance(rule, Split) else rule(source)
        check(split, source)
        found.append(split)
    return found


def _values(column: str, dry: DryFit, source: Source) -> list[str]:
    """The values of a column, or the groups, as the rule `leave-...` takes them."""
    columns = {name for row in getattr(source, "columns", {}).values() for name in row}
    if column == GROUP and GROUP not in columns:
        if not dry.datamodule.grouped:
            raise InputError(
                "--leave group needs groups (patients, sequences), and none are known of these "
                "data; give --folds, or a column of their table."
            )
        values = sorted(set(source.groups.values()))
    else:
        values = [f"{column}={value}" for value in column_values_of(source, column)]
    if len(values) < 2:
        raise InputError(
            f"--leave {column} needs two values or more, and there is {len(values)}; give --folds."
        )
    return values


def _division_text(dry: DryFit, source: Source, splits: Sequence[Split], untested: int) -> str:
    """The number of images that each fold tests, in words."""
    sizes = ", ".join(str(len(split.ids["test"])) for split in splits)
    kept = "groups are kept together"
    if not dry.datamodule.grouped:
        kept = "no groups are known, so each image stands for itself"
    left = f"; {untested} without a value are tested in none" if untested else ""
    unit = "scan" if hasattr(source, "expand") else "image"
    whole = count_text(len(source.ids), unit)
    return f"{len(splits)} folds of {whole} test {sizes}{left}; {kept}; seed 42"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide the trainings, dotted key -> value."""
    found = {f"model.{key}": value for key, value in config["model"].items()}
    found |= {f"data.{key}": value for key, value in config["data"].items()}
    found |= {f"trainer.{key}": config["trainer"].get(key) for key in _TRAINER}
    for key in _DECIDING:
        part, _, name = key.rpartition(".")
        found[key] = (config[part] if part else config).get(name)
    return {key: _plain(value) for key, value in found.items() if key not in _NOT_DECIDING}


def _plain(value: Any) -> Any:
    """The value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _difference(before: CrossValidation, now: CrossValidation) -> str:
    """The difference of two cross-validations in words; empty where they are one."""
    for key, value in now.settings.items():
        if before.settings.get(key) != value:
            return f"{key} = {before.settings.get(key)!r}, not {value!r}"
    if [fold.protocol for fold in before.folds] != [fold.protocol for fold in now.folds]:
        return f"the folds of {before.protocol}, not of {now.protocol}"
    changed = sum(old != new for old, new in zip(before.folds, now.folds, strict=True))
    return f"other images in {changed} of its folds" if changed else ""


def _for_all_folds(args: Sequence[str]) -> tuple[str, ...]:
    """The options without ``--only``, and so those of the command that leaves no fold out."""
    parser = OptionParser(add_help=False)
    parser.add_argument("--only")
    return tuple(parser.parse_known_args(args)[1])


def _chosen(text: str | None, count: int) -> list[int]:
    """The places of the folds of ``--only 1,3``, from 0; all of them without it."""
    if text is None:
        return list(range(count))
    words = text.split(",")
    if not all(word.isdecimal() and 1 <= int(word) <= count for word in words):
        raise InputError(f"--only is {text!r}; give numbers of folds from 1 to {count}, as 1,3.")
    return [int(word) - 1 for word in words]


def _do_fold(
    validation: CrossValidation,
    place: int,
    fit: Sequence[str],
    given: argparse.Namespace,
    step: Step,
) -> None:
    """Train and test one fold, as far as it is not done."""
    title = f"fold {place + 1} of {len(validation.folds)}"
    fold = validation.folds[place]
    where = ["--name", validation.run_name(place)]
    run = validation.run(place)
    if run is None or not run.ending.complete:
        again = ["--ckpt_path", "last"] if run is not None and run.last is not None else []
        print(f"\n{title}: training on {fold.protocol}{' goes on' if again else ''}", flush=True)
        _finish(step, ["fit", *fit, "--data.protocol", fold.protocol, *where, *again], title)
        run = validation.run(place)
    if run is None or not run.ending.complete:
        raise InputError(f"{title} is not trained to its end; the same command goes on from there.")
    tested = map(Summary.read, validation.tests(place).values())
    if not any(_is_asked(summary, given) for summary in tested):
        print(f"\n{title}: test on {fold.protocol}", flush=True)
        trust = ["--trust_code"] if given.trust_code else []
        runs = ["--runs", str(validation.root)]
        options = _test_options(given)
        _finish(step, ["test", "--ckpt_path", "best", *where, *runs, *options, *trust], title)


def _finish(step: Step, command: list[str], title: str) -> None:
    status = step(command)
    if status != 0:
        print(
            f"{title} ended with exit status {status}; the same command goes on from there.",
            file=sys.stderr,
        )
        raise SystemExit(status if status > 0 else 1)


def _test_options(given: argparse.Namespace) -> list[str]:
    """The options of `test`."""
    named = [(name, getattr(given, name)) for name in _TEST_OPTIONS]
    return [word for name, value in named if value != "" for word in (f"--{name}", str(value))]


def _is_asked(summary: Summary, given: argparse.Namespace) -> bool:
    """Tell whether these scores were made by the options of `test` that are given."""
    found = summary.inference
    others = found.get("ensemble") or found.get("engine", "torch") != "torch"
    made = (
        summary.scored_at.startswith("native"),
        found.get("tta") or "none",
        VALIDATED if summary.threshold_from else summary.threshold,
        found.get("postprocess") or "",
    )
    asked = (given.score_at == "native", given.tta, given.threshold, given.postprocess)
    return made == asked and not others


def _show(validation: CrossValidation) -> None:
    """Pool what is tested, and print it below a heading."""
    print(f"\nRESULT of the cross-validation {validation.folder}\n", flush=True)
    for folder in validation.pool().values():
        summary = Summary.read(folder)
        print_scores(summary)
        if summary.volumes is not None:
            print_volumes(summary.volumes)
            print(f"per-scan table:   {folder / VOLUME_FILE}")
        print(f"per-image table:  {folder / 'scores.csv'} (and scores.parquet)")
    print(f"report:    {shell_command('lightning-seg', 'report', validation.folder)}")
    if validation.trained:
        predict = ["lightning-seg", "predict", "--ckpt_path", validation.folder]
        print(f"ensemble:  {shell_command(*predict, '--input', 'Y', '--output', 'DIR')}")


def _threshold(text: str) -> float | str:
    """``--threshold`` as a number, or as `VALIDATED`."""
    return text if text == VALIDATED else float(text)


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lightning-seg cv",
        usage="lightning-seg cv -c RECIPE (--folds K | --leave COLUMN) [options] [--any.key value]",
        description="Train and test a recipe on every fold of its data, as one result. All other "
        "options are those of `lightning-seg fit`, and hold for every fold.",
    )
    add = parser.add_argument
    add("--folds", type=int, metavar="K", help="K folds, from 3, by group; the next one validates")
    each = "each value of a column of the data's table tests once; group: each patient or sequence"
    add("--leave", metavar="COLUMN", help=each)
    add("--name", help="of the cross-validation (default: the recipe's with -K-fold)")
    some = "train and test these folds alone, such as 1,3; what lacks is said: PARTIAL"
    add("--only", metavar="N,N", help=some)
    at = "score at the network's size, or at the native size of each mask (default network)"
    add("--score_at", choices=("network", "native"), default="network", help=at)
    add("--tta", default="none", metavar="NAME", help="test-time augmentation of the tests")
    cut = f"a probability above it belongs to the mask (default 0.5); {VALIDATED}: of each fold the"
    own = "one that its training chose on its validation split"
    add("--threshold", type=_threshold, default=0.5, metavar="P", help=f"{cut} {own}")
    steps = "what follows the threshold, such as fill_holes,min_area=50"
    add("--postprocess", default="", metavar="STEPS", help=steps)
    add_trust_option(parser)
    return parser
