"""Protocol files and splitters: nothing stands in two splits, no group is divided, the shipped files follow their rule."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_seg.data.sources import kvasir_seg
from lightning_seg.data.splits import (
    PROTOCOLS,
    SPLITS,
    check,
    group_split,
    k_fold,
    leak_of,
    load_protocol,
    make_split,
    protocol_names,
    protocol_text,
)
from lightning_seg.errors import InputError

MakeSource = Callable[[int], Any]
FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}
some_groups = st.lists(st.integers(0, 30), min_size=1, max_size=120).map(
    lambda groups: {f"id{index}": f"patient{group}" for index, group in enumerate(groups)}
)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(
        tmp_path / "small.csv",
        "# name: small\n# version: 3\nid,split\ns01,train\ns00,train\ns02,val\ns03,test\n",
    )


def test_a_protocol_file_is_read_with_its_header(small: Path) -> None:
    split = load_protocol(small)
    assert (split.name, split.version) == ("small", "3")
    assert split.ids == {"train": ("s01", "s00"), "val": ("s02",), "test": ("s03",)}
    assert load_protocol(str(small)) == split


def test_the_digest_depends_on_the_assignment_alone(small: Path, tmp_path: Path) -> None:
    other = write(
        tmp_path / "o.csv", "# name: other\nid,split\ns03,test\ns02,val\ns00,train\ns01,train\n"
    )
    moved = write(
        tmp_path / "m.csv", "# name: small\nid,split\ns03,train\ns02,val\ns00,train\ns01,test\n"
    )
    assert load_protocol(small).digest == load_protocol(other).digest != load_protocol(moved).digest
    assert len(load_protocol(small).digest) == 12


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,split\na,train\na,val\nb,test\n", "lists 'a' twice"),
        ("id,split\na,train\nb,test\n", "no ids to val"),
        ("id,split\na,train\nb,dev\n", "puts 'b' into 'dev'"),
        ("a,train\nb,val\n", "does not start with the line 'id,split'"),
        ("id,split\na;train\n", "holds the line 'a;train'"),
        ("", "does not start"),
        ("# leaks: maybe\nid,split\na,train\nb,val\nc,test\n", "'# leaks: maybe'; write yes or no"),
    ],
)
def test_a_wrong_protocol_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_protocol(write(tmp_path / "wrong.csv", text))


def test_an_unknown_protocol_gets_its_near_match() -> None:
    with pytest.raises(
        InputError, match="no protocol named 'kvasir-unet'; did you mean 'kvasir-unet-a'"
    ):
        load_protocol("kvasir-unet")
    with pytest.raises(InputError, match="there is no protocol file"):
        load_protocol("folder/mine.csv")


def test_ids_that_the_data_set_lacks_are_counted_and_named(
    small: Path, make_source: MakeSource
) -> None:
    source = make_source(2)
    with pytest.raises(
        InputError, match="names 2 of 4 ids that the data set lacks, first s02, s03"
    ):
        check(load_protocol(small), source)


def test_a_group_in_two_splits_is_refused(small: Path, make_source: MakeSource) -> None:
    source = make_source(4)
    check(load_protocol(small), source)
    source.groups |= {"s01": "patient 7", "s03": "patient 7"}
    with pytest.raises(InputError, match="group 'patient 7' in both train and test"):
        check(load_protocol(small), source)


def test_splits_of_a_table_that_divide_a_group_are_refused_with_the_cure(
    make_source: MakeSource,
) -> None:
    source = make_source(4)
    homes = dict(zip(source.ids, ("train", "train", "val", "test"), strict=True))
    cure = "remove the column split of the table, or give --data.protocol auto-42"
    for assigned, said in ((homes, True), ({}, False)):
        source.assigned = assigned
        source.groups = dict.fromkeys(source.ids, "patient 7")
        with pytest.raises(InputError, match="in both train and val") as caught:
            check(make_split("auto", "1", "", homes), source)
        assert (cure in str(caught.value)) == said


def test_a_group_in_two_splits_is_let_through_only_where_the_file_declares_it(
    small: Path, tmp_path: Path, make_source: MakeSource
) -> None:
    source = make_source(4)
    source.groups |= {"s01": "patient 7", "s03": "patient 7"}
    declared = {
        answer: load_protocol(
            write(
                tmp_path / f"{answer}.csv",
                f"# leaks: {answer}\n{small.read_text(encoding='utf-8')}",
            )
        )
        for answer in ("yes", "no")
    }
    check(declared["yes"], source)
    with pytest.raises(InputError, match="in both train and test"):
        check(declared["no"], source)
    assert declared["yes"].digest == declared["no"].digest
    with pytest.raises(InputError, match="names 1 of 4 ids"):
        check(declared["yes"], make_source(3))


@given(groups=some_groups, seed=st.integers(0, 5))
def test_a_group_never_appears_in_two_splits(groups: dict[str, str], seed: int) -> None:
    if len(set(groups.values())) < 3:
        with pytest.raises(InputError, match="cannot fill"):
            group_split(groups, FRACTIONS, seed)
        return
    split = group_split(groups, FRACTIONS, seed)
    assert all(split.values())
    assert sorted(id for ids in split.values() for id in ids) == sorted(groups)
    homes = Counter(group for ids in split.values() for group in {groups[id] for id in ids})
    assert set(homes.values()) == {1}


@given(groups=some_groups, k=st.integers(2, 6), seed=st.integers(0, 5))
def test_a_group_never_appears_in_two_folds(groups: dict[str, str], k: int, seed: int) -> None:
    if len(set(groups.values())) < k:
        with pytest.raises(InputError, match=f"k = {k} folds"):
            k_fold(groups, k, seed)
        return
    folds = k_fold(groups, k, seed)
    assert sorted(id for fold in folds for id in fold) == sorted(groups)
    assert set(
        Counter(group for fold in folds for group in {groups[id] for id in fold}).values()
    ) == {1}
    largest = max(Counter(groups.values()).values())
    assert max(map(len, folds)) - min(map(len, folds)) <= largest


def test_without_groups_the_split_is_the_plain_shuffle_cut() -> None:
    ids = [f"{index:03d}" for index in range(100)]
    shuffled = list(ids)
    random.Random(5).shuffle(shuffled)
    split = group_split({id: id for id in ids}, FRACTIONS, seed=5)
    assert split["train"] == tuple(sorted(shuffled[:70]))
    assert split["val"] == tuple(sorted(shuffled[70:80]))


def test_sizes_stay_exact_where_single_ids_fill_the_gaps_between_pairs() -> None:
    groups = {f"{index:03d}": f"{index // 2 if index < 40 else index:03d}" for index in range(100)}
    for seed in range(20):
        assert [len(ids) for ids in group_split(groups, FRACTIONS, seed).values()] == [70, 10, 20]


def test_a_group_larger_than_every_split_goes_where_most_room_is() -> None:
    groups = {f"{index:02d}": "big" if index < 18 else f"{index}" for index in range(24)}
    for seed in range(20):
        split = group_split(groups, {"val": 0.2, "train": 0.6, "test": 0.2}, seed)
        assert {f"{index:02d}" for index in range(18)} <= set(split["train"])


def test_the_seed_alone_decides_the_split() -> None:
    groups = {f"{index:03d}": f"{index // 2}" for index in range(100)}
    backwards = dict(reversed(groups.items()))
    assert group_split(groups, FRACTIONS, 1) == group_split(backwards, FRACTIONS, 1)
    assert group_split(groups, FRACTIONS, 1) != group_split(groups, FRACTIONS, 2)
    assert k_fold(groups, 5, 1) == k_fold(backwards, 5, 1) != k_fold(groups, 5, 2)


@given(total=st.integers(10, 300), seed=st.integers(0, 3))
def test_sizes_are_exact_where_every_group_is_one_id(total: int, seed: int) -> None:
    split = group_split({str(index): str(index) for index in range(total)}, FRACTIONS, seed)
    assert np.allclose(
        [len(split[name]) for name in FRACTIONS],
        [total * share for share in FRACTIONS.values()],
        atol=1,
    )


@pytest.mark.parametrize("fractions", [{"train": 0.5, "test": 0.6}, {"train": 1.2, "test": -0.2}])
def test_fractions_that_are_no_shares_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(InputError, match="sum to 1"):
        group_split({"a": "a", "b": "b"}, fractions, 0)


def test_protocol_text_is_what_load_protocol_reads(tmp_path: Path) -> None:
    ids = {"train": ("b", "a"), "val": ("d",), "test": ("c",)}
    split = load_protocol(write(tmp_path / "p.csv", protocol_text("p", 2, "by hand: a, b", ids)))
    assert (split.name, split.version, split.rule, split.leaks) == (
        "p",
        "2",
        "by hand: a, b",
        False,
    )
    assert load_protocol(
        write(tmp_path / "l.csv", protocol_text("l", 1, "", ids, leaks=True))
    ).leaks
    assert {name: set(members) for name, members in split.ids.items()} == {
        name: set(members) for name, members in ids.items()
    }


@pytest.mark.parametrize("name", protocol_names())
def test_every_shipped_protocol_is_whole_and_bears_the_name_of_its_file(name: str) -> None:
    split = load_protocol(name)
    assert split.name == name
    assert split.version == ("2" if name.endswith("-v2") else "1")
    assert "# rule: " in (PROTOCOLS / f"{name}.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("kvasir-unet-a", (800, 100, 100)),
        ("kvasir-80-10-10", (800, 100, 100)),
        ("kvasir-60-20-20", (600, 200, 200)),
        ("kvasir-800-200", (720, 80, 200)),
        ("kvasir-unet-a-v2", (800, 100, 100)),
        ("kvasir-80-10-10-v2", (800, 100, 100)),
        ("kvasir-60-20-20-v2", (600, 200, 200)),
        ("kvasir-800-200-v2", (720, 80, 200)),
    ],
)
def test_the_kvasir_protocols_follow_from_the_ids_by_their_rule(
    name: str, sizes: tuple[int, ...]
) -> None:
    split = load_protocol(name)
    assert tuple(len(ids) for ids in split.ids.values()) == sizes
    ids = sorted(id for members in split.ids.values() for id in members)
    assert kvasir_seg.protocol(name, ids) == (PROTOCOLS / f"{name}.csv").read_text(encoding="utf-8")


def test_no_kvasir_protocol_divides_a_pair_that_version_1_knew() -> None:
    pairs = kvasir_seg.duplicate_groups()
    assert len(pairs) == 48
    assert set(Counter(pairs.values()).values()) == {2}
    for name in kvasir_seg.SHARES:
        home = load_protocol(name).home
        assert all(home[id] == home[group] for id, group in pairs.items()), name


def test_the_known_pairs_of_kvasir_are_those_of_version_1_and_those_found_later() -> None:
    known = {frozenset(pair[:2]) for pair in kvasir_seg.known_pairs()}
    first = {
        frozenset(pair) for pair in kvasir_seg.duplicate_groups().items() if len(set(pair)) > 1
    }
    text = (Path(__file__).parents[2] / "docs/kvasir-same-views.csv").read_text(encoding="utf-8")
    rows = [line.removeprefix("# probable: ").split(",") for line in text.splitlines()]
    later = {frozenset(row[:2]) for row in rows if len(row) == 3 and row[0].startswith("cj")}
    assert (len(first), len(later), len(known)) == (24, 19, 43)
    assert first | later == known


def test_groups_join_pairs_that_share_a_frame() -> None:
    groups = kvasir_seg.known_groups()
    assert all(groups[one.first] == groups[one.second] for one in kvasir_seg.known_pairs())
    assert all(groups[name] == name == min(_members(groups, name)) for name in groups.values())
    assert max(Counter(groups.values()).values()) == 4


def _members(groups: dict[str, str], name: str) -> list[str]:
    return [id for id, group in groups.items() if group == name]


@pytest.mark.parametrize(
    ("name", "pairs", "touching"),
    [
        ("kvasir-unet-a", 12, {"same view": 6}),
        ("kvasir-80-10-10", 12, {"same view": 6}),
        ("kvasir-60-20-20", 14, {"same view": 11}),
        ("kvasir-800-200", 14, {"same view": 11}),
        ("kvasir-880-120", 23, {"same picture": 13, "same view": 3}),
    ],
)
def test_a_leaking_kvasir_protocol_lists_its_pairs(
    name: str, pairs: int, touching: dict[str, int]
) -> None:
    split = load_protocol(name)
    home = split.home
    known = [one for one in kvasir_seg.known_pairs() if home[one.first] != home[one.second]]
    assert list(split.pairs) == known
    assert (split.leaks, len(known)) == (True, pairs)
    test = [one for one in known if "test" in (home[one.first], home[one.second])]
    assert Counter(one.kind for one in test) == touching
    assert f"{pairs} known pairs" in split.leak_sentence
    assert f"{len(test)} of them touch test" in split.leak_sentence


CLEAN = [*(f"{name}-v2" for name in kvasir_seg.SHARES), "kvasir-880-120-clean"]


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_kvasir_protocol_keeps_all_known_pairs_together(name: str) -> None:
    split = load_protocol(name)
    home = split.home
    assert all(home[one.first] == home[one.second] for one in kvasir_seg.known_pairs())
    assert (split.leaks, split.leak_sentence, split.pairs) == (False, "", ())


def test_the_owners_split_keeps_its_sizes_and_most_of_its_test_frames_when_cleaned() -> None:
    theirs, clean = load_protocol("kvasir-880-120"), load_protocol("kvasir-880-120-clean")
    assert [len(theirs.ids[part]) for part in SPLITS] == [792, 88, 120]
    assert [len(clean.ids[part]) for part in SPLITS] == [792, 88, 120]
    assert len(set(theirs.ids["test"]) & set(clean.ids["test"])) == 104
    assert kvasir_seg.clean_twin() == (PROTOCOLS / "kvasir-880-120-clean.csv").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("kvasir-unet-a", "f1d10e535545"),
        ("kvasir-80-10-10", "f1d10e535545"),
        ("kvasir-60-20-20", "48e052d4c0b8"),
        ("kvasir-800-200", "9572b3826939"),
        ("kvasir-880-120", "0b3fd6a14d62"),
    ],
)
def test_a_leak_that_is_declared_later_leaves_the_digest(name: str, digest: str) -> None:
    """A published score bears this digest; another split is another version under another name."""
    assert load_protocol(name).digest == digest
    assert "known pairs of images that show the same" in leak_of(digest)


def test_only_leaking_protocols_are_told_by_their_digest() -> None:
    assert leak_of(load_protocol("kvasir-unet-a-v2").digest) == ""
    assert leak_of("000000000000") == ""
    assert "one patient or sequence" in leak_of(load_protocol("clinicdb-459-153").digest)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("# pair: a,b,same view", "add the line '# leaks: yes'"),
        ("# leaks: yes\n# pair: a,b", "write first,second,kind"),
        ("# leaks: yes\n# pair: a,d,same view", "does not stand across its splits"),
        ("# leaks: yes\n# pair: a,x,same view", "does not stand across its splits"),
    ],
)
def test_a_listed_pair_must_stand_across_splits(tmp_path: Path, header: str, sentence: str) -> None:
    text = f"{header}\nid,split\na,train\nd,train\nb,val\nc,test\n"
    with pytest.raises(InputError, match=sentence):
        load_protocol(write(tmp_path / "p.csv", text))
