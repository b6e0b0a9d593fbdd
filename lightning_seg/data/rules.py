"""Splits that are made from a data set when it is opened, by a rule and a seed: for data without a
file of ids.

* ``auto``, ``auto-<seed>``: 80/10/10 % by group (seed 42), or ``auto``: as the source itself
  assigns its ids, where it does.
* ``fold-<i>-of-<k>``: fold i of k tests, the next one validates (by group, seed 42).
* ``leave-<group>``: this group tests, a tenth of the others validates: leave one out.
* ``leave-<column>=<value>``: the same with the images of a value of a column of the table, such as
  ``leave-centre=A``.
* ``half-<seed>-of-<split>-of-<protocol>``: one half of a split of another protocol tests, the other
  validates; what that protocol trains on trains.
* ``reserve-<seed>-of-<protocol or rule>``: one half of its validation ids, by group, is reserved for
  a guarantee (``calibrate --fnr``): they train nothing, choose nothing and test nothing.
* ``test-only``: everything tests a network that was trained elsewhere.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lightning_seg.data.sources.base import Source
from lightning_seg.data.splits import (
    RESERVED,
    SPLITS,
    KnownPair,
    Split,
    check,
    group_split,
    k_fold,
    load_protocol,
    make_split,
)
from lightning_seg.errors import InputError, unknown
from lightning_seg.tables import count_text

Rule = Callable[[Any], Split]  # an opened source -> its split

SEED = 42
FEWEST_RESERVED = 10  # groups; an error rate of .1 needs 9
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def resolve(name: str, kind: type[Any]) -> Split | Rule:
    """The protocol ``name`` of the data set's class ``kind``: its split, or the rule that makes it
    from an opened source.

    A class may have rules of its own, ``rules: ClassVar[Mapping[str, Rule]]``.
    """
    own: Mapping[str, Rule] = getattr(kind, "rules", {})
    if match := re.fullmatch(r"reserve-(\d+)-of-(.+)", name):
        seed, whole = int(match[1]), resolve(match[2], kind)
        return lambda source: _reserve(name, source, seed, whole)
    return (
        own.get(name) or _general(name) or load_protocol(name, others=[*own, "auto", "test-only"])
    )


def _general(name: str) -> Rule | None:
    if name == "auto":
        return lambda source: _assigned(source) or _drawn_split(name, source, SEED)
    if name == "test-only":
        return lambda source: for_testing(name, source)
    if match := re.fullmatch(r"auto-(\d+)", name):
        seed = int(match[1])
        return lambda source: _drawn_split(name, source, seed)
    if match := re.fullmatch(r"fold-(\d+)-of-(\d+)", name):
        fold, count = int(match[1]), int(match[2])
        if count < 3 or not 1 <= fold <= count:
            raise InputError(
                f"protocol {name!r} does not exist; give fold-1-of-k to fold-k-of-k with k from 3."
            )
        return lambda source: _fold_split(name, source, fold - 1, count)
    if match := re.fullmatch(r"half-(\d+)-of-(val|test)-of-([^/\\]+)", name):
        seed, part, whole = int(match[1]), match[2], load_protocol(match[3])
        return lambda source: _half(name, source, seed, part, whole)
    if name.startswith("leave-"):
        return lambda source: _leave(name, source, name.removeprefix("leave-"))
    return None


def for_testing(name: str, source: Source) -> Split:
    """The split in which all ids of the source test."""
    return make_split(
        name, "1", f"all {len(source.ids)} ids test", dict.fromkeys(source.ids, "test")
    )


def _assigned(source: Source) -> Split | None:
    assigned: Mapping[str, str] = getattr(source, "assigned", {})
    if not assigned:
        return None
    leaks = bool(getattr(source, "leaks", False))
    return make_split("auto", "1", "as the data set's own table says", assigned, leaks)


def _drawn_split(name: str, source: Source, seed: int) -> Split:
    shares = "/".join(f"{100 * share:g}" for share in SHARES.values())
    rule = f"{shares} % of {len(source.ids)} ids by group, seed {seed}"
    return _of_parts(name, rule, group_split(source.groups, SHARES, seed))


def _fold_split(
    name: str,
    source: Source,
    fold: int,
    count: int,
) -> Split:
    folds = k_fold(source.groups, count, SEED)
    test, val = folds[fold], folds[(fold + 1) % count]
    train = sorted(set(source.ids) - {*test, *val})
    return _of_parts(
        name,
        f"{count} folds by group, seed {SEED}",
        dict(zip(SPLITS, (train, val, test), strict=True)),
    )


def _half(
    name: str,
    source: Source,
    seed: int,
    part: str,
    whole: Split,
) -> Split:
    """Divide ``val`` or ``test`` of a protocol in two.

    UNet-A's card says of its test "50 % of the original validation split, seed 42". With a protocol
    whose test is what a paper calls validation, as in kvasir-880-120, all else trains.
    """
    check(whole, source)
    divided = {id: source.groups[id] for id in whole.ids[part]}
    halves = group_split(divided, {"test": 0.5, "val": 0.5}, seed)
    train = [*whole.ids["train"], *(whole.ids["val"] if part == "test" else ())]
    rule = (
        f"the {len(divided)} {part} ids of {whole.name} ({whole.digest}) in two halves, by group, "
        f"seed {seed}: one tests, the other validates"
    )
    found = _of_parts(name, rule, {"train": train, **halves})
    home = found.home
    across = tuple(pair for pair in whole.pairs if _divided(pair, home))
    return replace(found, leaks=bool(across) if whole.pairs else whole.leaks, pairs=across)


def _reserve(name: str, source: Source, seed: int, whole: Split | Rule) -> Split:
    """Set aside one half of the validation ids of a protocol, before anything is trained.

    Errors: InputError where either half would hold fewer than `FEWEST_RESERVED` groups.
    """
    split = whole if isinstance(whole, Split) else whole(source)
    check(split, source)
    divided = {id: source.groups[id] for id in split.ids["val"]}
    groups = len(set(divided.values()))
    if groups < 2 * FEWEST_RESERVED or RESERVED in split.ids:
        kept = " and has reserved some already" if RESERVED in split.ids else ""
        raise InputError(
            f"protocol {split.name} validates on {count_text(groups, 'group')} (patients, "
            f"sequences, or single images){kept}; one half can be reserved for a guarantee from "
            f"{2 * FEWEST_RESERVED} on: name a protocol with a larger validation split."
        )
    halves = group_split(divided, {RESERVED: 0.5, "val": 0.5}, seed)
    rule = (
        f"{split.name} ({split.digest}), of whose {len(divided)} val ids one half is reserved for "
        f"a guarantee, by group, seed {seed}: they train, choose and test nothing"
    )
    parts = {"train": split.ids["train"], **halves, "test": split.ids["test"]}
    safe = re.sub(r"[/\\]", "_", name)  # the name becomes that of a folder
    found = _of_parts(safe, rule, parts)
    home = found.home
    across = tuple(pair for pair in split.pairs if _divided(pair, home))
    return replace(found, leaks=split.leaks, pairs=across)


def _divided(pair: KnownPair, home: Mapping[str, str]) -> bool:
    splits = {home[id] for id in (pair.first, pair.second) if id in home}
    return len(splits) > 1


def _leave(name: str, source: Source, group: str) -> Split:
    column, equals, value = group.partition("=")
    if group in source.groups.values():
        tested = [id for id in source.ids if source.groups[id] == group]
        what = f"group {group}"
    elif equals:
        tested = [id for id, each in _column(source, column).items() if each == value]
        what = f"{column} {value}"
        if not tested:
            raise unknown(f"value of {column}", value, column_values_of(source, column))
    else:
        raise unknown("group of the data set", group, set(source.groups.values()))
    others = {id: source.groups[id] for id in source.ids if id not in set(tested)}
    parts: dict[str, Any] = dict(group_split(others, {"train": 0.9, "val": 0.1}, SEED))
    parts["test"] = tested
    rule = f"{what} tests; of the others 10 % validate, by group, seed {SEED}"
    return _of_parts(re.sub(r"[/\\]", "_", name), rule, parts)  # the name becomes that of a folder


def column_values_of(source: Source, column: str) -> list[str]:
    """The values of a column of the data set's table, sorted; an image without one counts for none.

    Raises:
        InputError: there is no such column.
    """
    return sorted(set(_column(source, column).values()) - {""})


def _column(source: Source, column: str) -> dict[str, str]:
    """id -> the value of a column, stripped."""
    rows: Mapping[str, Mapping[str, str]] = getattr(source, "columns", {})
    names = dict.fromkeys(name for row in rows.values() for name in row)
    if column not in names:
        raise unknown("column of the data set's table", column, names)
    return {id: rows.get(id, {}).get(column, "").strip() for id in source.ids}


def _of_parts(
    name: str,
    rule: str,
    parts: Mapping[str, Any],
) -> Split:
    return make_split(name, "1", rule, {id: split for split, ids in parts.items() for id in ids})
