"""Splits by rule: made from the groups when the data are opened, the same every time, no group in two of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_seg.data import DATASETS, SegmentationDataModule
from lightning_seg.data.rules import column_values_of, resolve
from lightning_seg.data.sources import kvasir_seg
from lightning_seg.data.splits import RESERVED, SPLITS, Split, load_protocol
from lightning_seg.errors import InputError

MakeSource = Callable[[int], Any]


class Bare:
    """A source of groups alone; 40 ids of 10 patients where none are given."""

    def __init__(self, groups: dict[str, str] | None = None) -> None:
        self.groups = groups or {f"s{index:02d}": f"patient {index // 4}" for index in range(40)}
        self.ids = sorted(self.groups)


def split(name: str, source: Any) -> Split:
    rule = resolve(name, type(source))
    assert not isinstance(rule, Split)
    return rule(source)


def homes(made: Split, source: Any) -> dict[str, set[str]]:
    """group -> the splits it stands in."""
    found: dict[str, set[str]] = {group: set() for group in source.groups.values()}
    for name, ids in made.ids.items():
        for id in ids:
            found[source.groups[id]].add(name)
    return found


@given(
    count=st.integers(3, 25),
    size=st.integers(1, 6),
    name=st.sampled_from(["auto", "auto-7", "fold-2-of-3", "leave-g1"]),
)
def test_no_group_stands_in_two_splits_and_no_id_is_lost(count: int, size: int, name: str) -> None:
    source = Bare({f"s{index:03d}": f"g{index % count}" for index in range(count * size)})
    made = split(name, source)
    assert sorted(id for ids in made.ids.values() for id in ids) == source.ids
    assert all(made.ids.values())
    assert all(len(found) == 1 for found in homes(made, source).values())
    assert made == split(name, source)
    assert (made.name, made.leaks, len(made.digest)) == (name, False, 12)


def test_auto_takes_80_10_10_and_another_seed_is_another_split() -> None:
    source = Bare()
    assert [len(split("auto", source).ids[name]) for name in SPLITS] == [32, 4, 4]
    assert (
        split("auto", source).digest
        == split("auto-42", source).digest
        != split("auto-43", source).digest
    )


def test_auto_follows_the_sources_own_assignment_and_a_seed_does_not() -> None:
    source: Any = Bare()
    source.assigned = {id: SPLITS[int(id[1:]) // 4 % 3] for id in source.ids}
    assert split("auto", source).ids["val"] == tuple(
        f"s{index:02d}" for index in range(40) if index // 4 % 3 == 1
    )
    assert split("auto-42", source).digest == split("auto", Bare()).digest


def test_the_folds_test_each_id_once_and_validate_on_the_next_fold() -> None:
    source = Bare()
    folds = [split(f"fold-{fold}-of-5", source) for fold in range(1, 6)]
    assert sorted(id for fold in folds for id in fold.ids["test"]) == source.ids
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        assert fold.ids["val"] == following.ids["test"]
        assert len(fold.ids["train"]) == 24


def test_the_group_left_out_tests_alone() -> None:
    source = Bare()
    made = split("leave-patient 3", source)
    assert made.ids["test"] == ("s12", "s13", "s14", "s15")
    assert len(made.ids["val"]) == 4
    with pytest.raises(
        InputError, match="no group of the data set named 'patient 33'; did you mean 'patient 3'"
    ):
        split("leave-patient 33", source)
    slashed = Bare({f"s{index}": f"a/{index}" for index in range(4)})
    assert split("leave-a/1", slashed).name == "leave-a_1"


@pytest.mark.parametrize("name", ["fold-0-of-5", "fold-6-of-5", "fold-1-of-2"])
def test_a_fold_that_does_not_exist_is_refused_before_any_data_are_opened(name: str) -> None:
    with pytest.raises(InputError, match=f"protocol '{name}' does not exist; give fold-1-of-k"):
        resolve(name, Bare)


def test_a_name_that_is_no_rule_is_a_shipped_protocol_or_an_error_that_proposes_both() -> None:
    assert resolve("drive", Bare) == load_protocol("drive")
    with pytest.raises(InputError, match="no protocol named 'autos'; did you mean 'auto'"):
        resolve("autos", Bare)
    with pytest.raises(
        InputError, match="no protocol named 'pranet-kvasr'; did you mean 'pranet-kvasir'"
    ):
        SegmentationDataModule("pranet", protocol="pranet-kvasr")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, make_source: type[Any]) -> None:
    class Rooted(make_source):  # type: ignore[misc]
        def __init__(self, root: Path | None = None, count: int = 12) -> None:
            super().__init__(count)

    monkeypatch.setitem(DATASETS, "fake", "lightning_seg.data.sources.phantom:Fake")
    monkeypatch.setattr("lightning_seg.data.sources.phantom.Fake", Rooted, raising=False)


def module(protocol: str) -> SegmentationDataModule:
    return SegmentationDataModule("fake", protocol=protocol, size=16, batch_size=2, num_workers=0)


def test_the_data_module_trains_on_a_split_by_rule_and_stamps_its_name_and_digest(
    fake: None,
) -> None:
    data = module("fold-1-of-4")
    data.setup("fit")
    data.setup("test")
    assert [len(data.ids(name)) for name in SPLITS] == [6, 3, 3]
    assert data.protocol_name == "fold-1-of-4"
    assert (
        data.protocol_digest
        == module("fold-1-of-4").protocol_digest
        != module("fold-2-of-4").protocol_digest
    )
    assert {id for batch in data.test_dataloader() for id in batch["id"]} == set(data.ids("test"))


def test_a_protocol_for_testing_alone_tests_and_says_so_when_asked_to_train(
    fake: None, tmp_path: Path
) -> None:
    path = tmp_path / "external.csv"
    path.write_text("id,split\n" + "".join(f"s{index:02d},test\n" for index in range(12)))
    for protocol, name in (("test-only", "test-only"), (str(path), "external")):
        data = module(protocol)
        data.setup("test")
        assert len(data.test_dataloader().dataset) == 12
        with pytest.raises(
            InputError, match=f"protocol {name} has no train ids; name another with data.protocol"
        ):
            data.setup("fit")
    assert module("test-only").protocol_digest == module(str(path)).protocol_digest


@pytest.mark.parametrize(
    ("content", "lacking"), [("a,train\nb,val\n", "test"), ("a,val\nb,test\n", "train")]
)
def test_a_protocol_with_one_gap_is_still_refused(
    tmp_path: Path, content: str, lacking: str
) -> None:
    path = tmp_path / "gap.csv"
    path.write_text("id,split\n" + content)
    with pytest.raises(InputError, match=f"gives no ids to {lacking}; .*or test alone has ids"):
        load_protocol(path)


class Frames(Bare):
    """The 1000 ids of Kvasir-SEG."""

    def __init__(self) -> None:
        ids = sorted(load_protocol("kvasir-unet-a-v2").home)
        known = kvasir_seg.known_groups()
        super().__init__({id: known.get(id, id) for id in ids})


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("half-42-of-val-of-kvasir-unet-a-v2", (800, 50, 50)),
        ("half-42-of-test-of-kvasir-unet-a-v2", (900, 50, 50)),
        ("half-42-of-test-of-kvasir-880-120-clean", (880, 60, 60)),
    ],
)
def test_half_of_a_split_tests_and_the_other_validates(name: str, sizes: tuple[int, ...]) -> None:
    source = Frames()
    made = split(name, source)
    part, whole = name.split("-of-")[1], load_protocol(name.split("-of-")[2])
    assert tuple(len(made.ids[one]) for one in SPLITS) == sizes
    assert sorted(made.ids["val"] + made.ids["test"]) == sorted(whole.ids[part])
    assert set(whole.ids["train"]) <= set(made.ids["train"])
    assert all(len(found) <= 1 for found in homes(made, source).values())
    assert (made.leaks, made.name) == (False, name)
    assert split(name.replace("42", "43"), source).digest != made.digest


def test_half_of_a_leaking_split_lists_the_pairs_that_still_cross() -> None:
    made = split("half-42-of-test-of-kvasir-880-120", Frames())
    home = made.home
    assert made.leaks
    assert all(home[pair.first] != home[pair.second] for pair in made.pairs)
    # val joined train, so that its seven pairs with it cross no longer
    assert len(made.pairs) == 16


@pytest.mark.parametrize("name", ["half-42-of-train-of-drive", "half-42-of-val-of-nothing"])
def test_half_of_what_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no protocol named"):
        resolve(name, Bare)


def test_half_of_the_validation_images_are_reserved_and_nothing_else_moves() -> None:
    source = Bare({f"s{index:03d}": f"patient {index // 2}" for index in range(400)})
    whole, made = split("auto", source), split("reserve-7-of-auto", source)
    assert made.ids["train"] == whole.ids["train"]
    assert made.ids["test"] == whole.ids["test"]
    parts = made.ids["val"], made.ids[RESERVED]
    assert sorted(id for part in parts for id in part) == sorted(whole.ids["val"])
    assert [len(part) for part in parts] == [20, 20]
    assert all(len(found) == 1 for found in homes(made, source).values())
    assert made.digest != whole.digest
    assert split("reserve-8-of-auto", source).ids[RESERVED] != made.ids[RESERVED]


def test_too_few_validation_groups_and_a_second_reserve_are_refused() -> None:
    with pytest.raises(InputError, match=r"validates on 1 group .* from 20 on"):
        split("reserve-7-of-auto", Bare())
    many = Bare({f"s{index:03d}": f"s{index:03d}" for index in range(800)})
    with pytest.raises(InputError, match="has reserved some already"):
        split("reserve-1-of-reserve-7-of-auto", many)


def test_a_value_of_a_column_is_left_out_whole_and_others_are_divided_by_group() -> None:
    source: Any = Bare()
    source.columns = {
        id: {"centre": "" if place < 4 else "AB"[place // 4 % 2]}
        for place, id in enumerate(source.ids)
    }
    made = split("leave-centre=A", source)
    expected = {id for id, row in source.columns.items() if row["centre"] == "A"}
    assert set(made.ids["test"]) == expected
    assert sorted(id for ids in made.ids.values() for id in ids) == source.ids
    assert all(len(found) == 1 for found in homes(made, source).values())
    assert column_values_of(source, "centre") == ["A", "B"]
    for name, words in (("leave-centre=C", "'C'"), ("leave-center=A", "did you mean 'centre'")):
        with pytest.raises(InputError, match=words):
            split(name, source)
