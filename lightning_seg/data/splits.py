"""Which sample belongs to which split: named protocol files, their checks, and group-aware
splitters."""

import csv
import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lightning_seg.data.sources.base import Source
from lightning_seg.errors import InputError, unknown
from lightning_seg.files.documents import read_text

PROTOCOLS = Path(__file__).parent / "protocols"
SPLITS = ("train", "val", "test")
# a part of some protocols: it trains nothing, chooses nothing and tests nothing
RESERVED = "calibration"
LEAK = "images of one patient or sequence stand in several of its splits"
# the cure where the data set's own table says the splits
_REDRAW = (
    ": remove the column split of the table, or give --data.protocol auto-42, and splits are drawn "
    "by group"
)
# files beside the protocols that hold groups
_TABLES = ("-duplicates", "-frames", "-pairs", "-patients")


class KnownPair(NamedTuple):
    """Two samples that are known to show the same, and how: ``same picture``, ``same view``."""

    first: str
    second: str
    kind: str


@dataclass(frozen=True)
class Split:
    """A named division of a data set.

    A split for testing alone has ids for ``test`` and none for ``train`` and ``val``.

    Args:
        digest: of its (id, split) pairs, whatever their order in the file and its comments.
        ids: ``train``, ``val`` and ``test`` -> ids; of some protocols also `RESERVED` -> ids.
        leaks: patients, sequences or pictures are known to stand in several of its splits.
        pairs: samples that show the same and stand in different splits, where they are listed.
    """

    name: str
    version: str
    digest: str
    ids: dict[str, tuple[str, ...]]
    rule: str = ""
    leaks: bool = False
    pairs: tuple[KnownPair, ...] = ()

    @property
    def home(self) -> dict[str, str]:
        """Each id's split."""
        return {id: split for split, ids in self.ids.items() for id in ids}

    @property
    def leak_sentence(self) -> str:
        """The samples that are known to stand on both sides; empty where the protocol does not
        leak."""
        if not self.leaks:
            return ""
        if not self.pairs:
            return LEAK
        test = set(self.ids["test"])
        touching = [pair for pair in self.pairs if test & {pair.first, pair.second}]
        counts = Counter(pair.kind for pair in touching)
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        several = len(self.pairs) > 1
        what = (
            "known pairs of images that show the same stand"
            if several
            else ("known pair of images that show the same stands")
        )
        return f"{len(self.pairs)} {what} across its splits; {len(touching)} of them touch test" + (
            f" ({kinds})" if kinds else ""
        )


def load_protocol(
    name_or_path: str | Path,
    others: Iterable[str] = (),
) -> Split:
    """Read the protocol shipped under this name, or the CSV file at this path.

    The file holds ``# name:`` lines, then ``id,split``.

    Args:
        others: further names that the error for an unknown name may propose.
    """
    path = _protocol_path(name_or_path, others)
    header, pairs, rows = _read_protocol(path)
    assigned: dict[str, str] = {}
    for id, split in rows:
        if id in assigned:
            raise InputError(f"{path} lists {id!r} twice; keep one of its lines.")
        assigned[id] = split
    leaks = header.get("leaks", "no")
    if leaks not in ("yes", "no"):
        raise InputError(f"{path} has the line '# leaks: {leaks}'; write yes or no.")
    _check_pairs(pairs, assigned, leaks == "yes", path)
    made = make_split(
        header.get("name", path.stem),
        header.get("version", "1"),
        header.get("rule", ""),
        assigned,
        leaks == "yes",
        str(path),
    )
    return replace(made, pairs=tuple(pairs))


def _check_pairs(
    pairs: Sequence[KnownPair],
    assigned: Mapping[str, str],
    leaks: bool,
    path: Path,
) -> None:
    if pairs and not leaks:
        raise InputError(f"{path} lists pairs across its splits; add the line '# leaks: yes'.")
    for pair in pairs:
        splits = [assigned.get(id) for id in (pair.first, pair.second)]
        if None in splits or splits[0] == splits[1]:
            raise InputError(
                f"{path} lists the pair {pair.first}, {pair.second}, which does not stand "
                "across its splits; remove the line."
            )


def make_split(
    name: str,
    version: str,
    rule: str,
    assigned: Mapping[str, str],
    leaks: bool = False,
    origin: str = "",
) -> Split:
    """Put each id where ``assigned`` says; InputError, naming ``origin``, where a split is
    empty."""
    ids = {split: tuple(id for id in assigned if assigned[id] == split) for split in SPLITS}
    empty = [split for split in SPLITS if not ids[split]]
    if empty not in ([], ["train", "val"]):
        raise InputError(
            f"{origin or f'protocol {name}'} gives no ids to {', '.join(empty)}; "
            f"each of {', '.join(SPLITS)} needs at least one "
            "(or test alone has ids, where nothing is to be trained)."
        )
    reserved = tuple(id for id in assigned if assigned[id] == RESERVED)
    if reserved:
        ids[RESERVED] = reserved
    return Split(name, version, _split_digest(assigned), ids, rule, leaks)


def leak_of(digest: str) -> str:
    """The known leaks of the shipped protocol with this digest; empty where it has none.

    A result that was recorded before its protocol's leak was found is told by it.
    """
    return _leaking_protocols().get(digest, "")


@cache
def _leaking_protocols() -> dict[str, str]:
    protocols = [load_protocol(name) for name in protocol_names()]
    return {one.digest: one.leak_sentence for one in protocols if one.leaks}


def _protocol_path(name_or_path: str | Path, others: Iterable[str]) -> Path:
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, Path) or path.suffix == ".csv" or len(path.parts) > 1:
        if not path.is_file():
            raise InputError(
                f"there is no protocol file {str(path)!r}; give a CSV file of id,split lines "
                "(--data.protocol, also where a checkpoint names a file that lies elsewhere now)."
            )
        return path
    names = protocol_names()
    if name_or_path not in names:
        raise unknown("protocol", name_or_path, [*names, *others])
    return PROTOCOLS / f"{name_or_path}.csv"


def protocol_names() -> list[str]:
    """The names of the shipped protocols, sorted."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.csv") if not path.stem.endswith(_TABLES))


def _read_protocol(
    path: Path,
) -> tuple[dict[str, str], list[KnownPair], list[tuple[str, str]]]:
    """The header, the pairs that it lists, and the (id, split) rows."""
    lines = read_text(path).removeprefix("\ufeff").splitlines()
    comments = [line.lstrip("# ").partition(":") for line in lines if line.startswith("#")]
    entries = [(key.strip(), value.strip()) for key, _, value in comments]
    table = [line for line in lines if line.strip() and not line.startswith("#")]
    try:
        body = list(csv.reader(table))
    except csv.Error as error:
        raise InputError(f"{path} is no CSV ({error}); write the file again.") from error
    if not body or body[0] != ["id", "split"]:
        raise InputError(
            f"{path} does not start with the line 'id,split'; add it below the comment lines."
        )
    for row in body[1:]:
        if len(row) != 2:
            raise InputError(f"{path} holds the line {','.join(row)!r}; each line is 'id,split'.")
        if row[1] not in (*SPLITS, RESERVED):
            raise InputError(
                f"{path} puts {row[0]!r} into {row[1]!r}; the splits are {', '.join(SPLITS)}, and "
                f"{RESERVED} for images that a guarantee is to be fitted to."
            )
    pairs = [_read_pair(value, path) for key, value in entries if key == "pair"]
    return dict(entries), pairs, [(id, split) for id, split in body[1:]]


def _read_pair(text: str, path: Path) -> KnownPair:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise InputError(f"{path} has the line '# pair: {text}'; write first,second,kind.")
    return KnownPair(*parts)


def _split_digest(assigned: Mapping[str, str]) -> str:
    content = "".join(f"{id},{assigned[id]}\n" for id in sorted(assigned))
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _other_protocol(split: Split, source: Source) -> str:
    """One that fits where this one does not: the data set's own, or a rule for what is there."""
    if split.name != source.default_protocol:
        return repr(source.default_protocol)
    return f"'auto', which divides the {len(source.ids)} that are there"


def check(split: Split, source: Source) -> None:
    """InputError if the source lacks ids of the protocol, or one of its groups stands in two splits
    undeclared."""
    wanted = [id for ids in split.ids.values() for id in ids]
    missing = sorted(set(wanted) - set(source.ids))
    if missing:
        raise InputError(
            f"protocol {split.name} names {len(missing)} of {len(wanted)} ids that the data set lacks, "
            f"first {', '.join(missing[:3])}; complete the data "
            f"or choose a protocol made for it, such as {_other_protocol(split, source)}."
        )
    if split.leaks:
        return
    home: dict[str, str] = {}
    for name, ids in split.ids.items():
        for id in ids:
            first = home.setdefault(source.groups[id], name)
            if first != name:
                own = split.name == "auto" and getattr(source, "assigned", {})
                raise InputError(
                    f"protocol {split.name} has the group {source.groups[id]!r} in both {first} and {name} (id {id!r}); "
                    f"a patient, sequence or duplicate belongs to one split{_REDRAW if own else ''} "
                    "(or the file says '# leaks: yes')."
                )


def group_split(
    groups: Mapping[str, str],
    fractions: Mapping[str, float],
    seed: int,
) -> dict[str, tuple[str, ...]]:
    """Divide ids at random, keeping each group whole.

    The sorted ids are shuffled by ``random.Random(seed)``; each id in turn brings its whole group
    into the first split that has room for it, the splits being filled in the order of
    ``fractions``. A group too large for every split goes where most room is left, and the last
    groups go to splits that are still empty. Where all groups are single ids this is the plain
    shuffle, cut; sizes are exact as long as enough single ids fill the gaps.

    Args:
        groups: id -> group.
        fractions: split -> its share of the ids; they sum to 1.
    """
    units = _shuffled_groups(groups, seed)
    room = _part_sizes(len(groups), fractions)
    if len(units) < len(room):
        raise InputError(
            f"{len(units)} groups cannot fill the {len(room)} splits {', '.join(room)}; ask for fewer splits."
        )
    chosen: dict[str, list[str]] = {name: [] for name in room}
    for index, unit in enumerate(units):
        empty = [name for name, ids in chosen.items() if not ids]
        fitting = (
            empty
            if len(units) - index <= len(empty)
            else [name for name in room if room[name] >= len(unit)]
        )
        name = fitting[0] if fitting else max(room, key=lambda name: room[name])
        chosen[name] += unit
        room[name] -= len(unit)
    return {name: tuple(sorted(ids)) for name, ids in chosen.items()}


def k_fold(
    groups: Mapping[str, str],
    k: int,
    seed: int,
) -> list[tuple[str, ...]]:
    """``k`` folds of nearly equal size, each group in one fold: shuffled, then the largest group
    first to the smallest fold."""
    units = _shuffled_groups(groups, seed)
    if not 2 <= k <= len(units):
        raise InputError(
            f"k = {k} folds are impossible; give 2 to {len(units)}, the number of groups."
        )
    folds: list[list[str]] = [[] for _ in range(k)]
    for unit in sorted(units, key=len, reverse=True):
        min(folds, key=len).extend(unit)
    return [tuple(sorted(fold)) for fold in folds]


def _shuffled_groups(
    groups: Mapping[str, str],
    seed: int,
) -> list[list[str]]:
    ids = sorted(groups)
    members: dict[str, list[str]] = defaultdict(list)
    for id in ids:
        members[groups[id]].append(id)
    random.Random(seed).shuffle(ids)
    return [members[group] for group in dict.fromkeys(groups[id] for id in ids)]


def _part_sizes(
    total: int,
    fractions: Mapping[str, float],
) -> dict[str, int]:
    """Whole numbers that sum to ``total``: rounded down, then the largest remainders up."""
    if any(share <= 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise InputError(
            f"the fractions {dict(fractions)} are not positive numbers that sum to 1; correct them."
        )
    exact = {name: round(total * share, 6) for name, share in fractions.items()}
    sizes = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: sizes[name] - exact[name])[
        : total - sum(sizes.values())
    ]:
        sizes[name] += 1
    return sizes


def protocol_text(
    name: str,
    version: int,
    rule: str,
    ids: Mapping[str, Sequence[str]],
    leaks: bool = False,
    pairs: Iterable[KnownPair] = (),
) -> str:
    """Write a protocol file: the header, then one ``id,split`` line per id, sorted by id.

    Of the ``pairs``, those across the splits are listed, and make the protocol one that leaks.
    """
    home = {id: split for split, members in ids.items() for id in members}
    across = [pair for pair in pairs if home[pair.first] != home[pair.second]]
    header = [f"# name: {name}", f"# version: {version}"]
    if leaks or across:
        header.append("# leaks: yes")
    header.append(f"# rule: {rule}")
    header += [f"# pair: {','.join(pair)}" for pair in across]
    rows = sorted(f"{id},{split}" for id, split in home.items())
    return "\n".join([*header, "id,split", *rows]) + "\n"
