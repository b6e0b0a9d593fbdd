"""Adopting a folder: what is found in each layout, decided by the safe reading, and said."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

import layouts

from lightning_seg.data.adopt import AdoptChoice, adopt_folder, adoption
from lightning_seg.data.adopt.machine import Machine
from lightning_seg.data.datamodule import SegmentationDataModule
from lightning_seg.errors import InputError

LAPTOP = Machine("", 8_000_000_000, {})
# rows, classes, and the sizes of the splits where the owners give them
EXPECTED = {
    "dsb2018": (6, ["foreground"], None),
    "busi": (12, ["foreground"], None),
    "isic2018": (8, ["foreground"], (4, 2, 2)),
    "montgomery": (6, ["foreground"], None),
    "glas": (10, ["foreground"], (5, 1, 4)),
    "monuseg": (8, ["foreground"], (4, 1, 3)),
    "polypgen": (24, ["foreground"], None),
    "carvana": (12, ["foreground"], None),
    "decathlon": (6, ["anterior", "posterior"], None),
    "dicom_series": (5, ["foreground"], None),
    "labelme": (6, ["polyp"], None),
    "coco": (8, ["cell", "debris"], (4, 2, 2)),
    "cvat": (6, ["lesion"], None),
    "listed": (12, ["foreground"], (8, 2, 2)),
    "pascal_voc": (9, ["class_1", "class_2"], (5, 1, 3)),
    "refuge": (27, ["class_0", "class_128"], (15, 2, 10)),
    "kits": (6, ["class_1", "class_2"], None),
    "amos": (8, ["right_kidney", "left_kidney"], (5, 1, 2)),
    "brats": (6, ["class_1", "class_4"], None),
    "ham10000": (12, ["foreground"], None),
    "chase_db1": (10, ["foreground"], None),
    "etis": (12, ["foreground"], None),
}


def adopt(folder, output, **choice):
    """The adoption, and the rows of its table."""
    found = adopt_folder(folder, output, AdoptChoice(**{"near": False} | choice), LAPTOP)
    lines = found.table.read_text(encoding="utf-8").splitlines()
    return found, list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", sorted(layouts.LAYOUTS))
def test_a_layout_becomes_a_table_and_a_recipe_whose_data_open(name, tmp_path):
    folder = layouts.make_layout(name, tmp_path)
    found, rows = adopt(folder, tmp_path / "my.yaml")
    count, classes, sizes = EXPECTED[name]
    assert len(rows) == count
    assert list(found.finding.classes) == classes
    recipe = yaml.safe_load(found.recipe.read_text(encoding="utf-8"))
    data = SegmentationDataModule(**recipe["data"], num_workers=0)
    data.setup("fit")
    data.require_foreground()
    batch = next(iter(data.train_dataloader()))
    assert batch["mask"].shape[1] == len(classes)
    splits = tuple(len(data.split.ids[split]) for split in ("train", "val", "test"))
    assert sum(splits) == count
    assert sizes is None or splits == sizes


def test_the_masks_of_one_picture_are_joined(tmp_path):
    folder = layouts.make_layout("busi", tmp_path)
    found, rows = adopt(folder, tmp_path / "my.yaml")
    several = [row for row in rows if ";" in row["mask"]]
    assert [row["id"] for row in several] == ["benign (2)"]
    data = SegmentationDataModule(**yaml.safe_load(found.recipe.read_text())["data"])
    mask = data.source.read("benign (2)").mask[..., 0]
    assert np.array_equal(mask > 0, layouts.blob(2) | layouts.blob(9, 4))
    assert {row["folder"] for row in rows} == {"benign", "malignant", "normal"}


def test_lists_of_names_are_the_owners_splits(tmp_path):
    folder = layouts.make_layout("listed", tmp_path)
    _, rows = adopt(folder, tmp_path / "my.yaml")
    homes = {row["id"]: row["split"] for row in rows}
    for split in ("train", "val", "test"):
        names = (folder / f"{split}.txt").read_text().split()
        assert {id for id, home in homes.items() if home == split} == {*names}
    # with folders and suffixes, behind which the masks stand
    (folder / "val.txt").write_text("images/cju008qk.jpg masks/cju008qk.jpg\ncju009qk.jpg\n")
    again, rows = adopt(folder, tmp_path / "paths.yaml")
    assert {row["id"]: row["split"] for row in rows} == homes
    assert any("tell the owners' splits: test 2, train 8, val 2" in note for note in told(again))
    (folder / "train_2.txt").write_text("cju011qk\n")
    drawn, _ = adopt(folder, tmp_path / "folds.yaml")
    assert any("in several splits (cju011qk, ...), as folds do" in note for note in told(drawn))
    assert drawn.finding.division.drawn


def told(found):
    """What was said of the division."""
    return found.finding.division.notes


def test_a_column_of_splits_is_the_owners(tmp_path):
    folder = layouts.make_layout("etis", tmp_path)
    lines = [f"{number},{'train' if number < 9 else 'test'}" for number in range(1, 13)]
    (folder / "table.csv").write_text("name,subset\n" + "\n".join(lines))
    found, rows = adopt(folder, tmp_path / "my.yaml")
    assert {row["id"] for row in rows if row["split"] == "test"} == {"9", "10", "11", "12"}
    assert any("'subset' tells the owners' splits" in note for note in told(found))


def test_photographs_of_one_lesion_stay_together(tmp_path):
    _, rows = adopt(layouts.make_layout("ham10000", tmp_path), tmp_path / "my.yaml")
    assert len({row["group"] for row in rows}) == 6
    assert len({(row["group"], row["split"]) for row in rows}) == 6


def test_of_several_sequences_the_first_is_taken_and_said(tmp_path):
    found, rows = adopt(layouts.make_layout("brats", tmp_path), tmp_path / "my.yaml")
    assert all(row["image"].endswith("_flair.nii") for row in rows)
    assert any("4 sequences (flair, t1, t1ce, t2)" in note for note in found.finding.notes)
    assert any(
        "other sequences of the same scans: 18" in text for text in found.finding.aside.sentences()
    )


def test_of_several_segmentations_the_first_is_taken_and_said(tmp_path):
    folder = tmp_path / "covid"
    for number in range(1, 7):
        values, labels = layouts.volume(number)
        name = f"coronacases_{number:03d}.nii.gz"
        layouts.save_volume(folder / "CT" / name, values)
        layouts.save_volume(folder / "Lung_Mask" / name, (labels > 0).astype(np.uint8))
        layouts.save_volume(folder / "Infection_Mask" / name, (labels > 1).astype(np.uint8))
    found, rows = adopt(folder, tmp_path / "my.yaml")
    assert all("Infection_Mask" in row["mask"] for row in rows)
    [note] = [note for note in found.finding.notes if "several segmentations" in note]
    assert "Infection_Mask/coronacases_001.nii.gz, Lung_Mask/coronacases_001.nii.gz" in note


def test_masks_of_one_sort_in_two_folders_have_no_sides(tmp_path):
    found, _ = adopt(layouts.make_layout("refuge", tmp_path), tmp_path / "my.yaml")
    assert not any("sides" in note for note in found.finding.notes)


def test_left_and_right_are_one_class_or_two_when_asked(tmp_path):
    folder = layouts.make_layout("montgomery", tmp_path)
    found, _ = adopt(folder, tmp_path / "one.yaml")
    assert any("left, right" in note for note in found.finding.notes)
    two, rows = adopt(folder, tmp_path / "two.yaml", union=False)
    assert two.finding.classes == ("left", "right")
    assert {"mask:left", "mask:right"} <= rows[0].keys()
    transforms = yaml.safe_load(two.recipe.read_text())["data"]["augment"]
    assert not any("Flip" in step["name"] for step in transforms)


def test_pictures_without_masks_are_negatives_when_named_so_or_asked_for(tmp_path):
    folder = layouts.make_layout("polypgen", tmp_path)
    found, rows = adopt(folder, tmp_path / "my.yaml")
    empty = [row["id"] for row in rows if not row["mask"]]
    assert len(empty) == 6
    assert found.finding.options["negatives"]
    for mask in (folder / "data_C1" / "masks_C1").glob("*0000_mask.jpg"):
        mask.unlink()
    left, rows = adopt(folder, tmp_path / "less.yaml")
    assert len(rows) == 23
    assert any("without a mask" in text for text in left.finding.aside.sentences())
    _, rows = adopt(folder, tmp_path / "all.yaml", negatives=True)
    assert len(rows) == 24


def test_a_video_and_a_patient_stay_together(tmp_path):
    _, rows = adopt(layouts.make_layout("polypgen", tmp_path), tmp_path / "a.yaml")
    videos = {row["group"] for row in rows if row["id"].startswith(("1_", "2_"))}
    assert len(videos) == 2
    _, rows = adopt(layouts.make_layout("carvana", tmp_path), tmp_path / "b.yaml")
    assert len({row["group"] for row in rows}) == 4
    homes = {(row["group"], row["split"]) for row in rows}
    assert len(homes) == 4


def test_a_table_adds_its_columns_and_groups_that_cross_the_owners_splits_leak(tmp_path):
    folder = layouts.make_layout("glas", tmp_path)
    _, rows = adopt(folder, tmp_path / "my.yaml")
    assert {row["grade_glas"] for row in rows} == {"benign"}
    table = next(folder.rglob("Grade.csv"))
    lines = table.read_text().replace("testA_1,7,", "testA_1,1,")
    table.write_text(lines)
    found, _ = adopt(folder, tmp_path / "leaking.yaml")
    assert found.table.read_text().startswith("# leaks: yes")
    data = SegmentationDataModule(**yaml.safe_load(found.recipe.read_text())["data"])
    _ = data.source
    assert data.leaks


def test_outlines_become_the_masks_that_they_draw(tmp_path):
    found, rows = adopt(layouts.make_layout("labelme", tmp_path), tmp_path / "my.yaml")
    data = SegmentationDataModule(**yaml.safe_load(found.recipe.read_text())["data"])
    for number in range(6):
        drawn = data.source.read(f"frame_{number:03d}").mask[..., 0] > 0
        truth = layouts.blob(number)
        assert 2 * (drawn & truth).sum() / (drawn.sum() + truth.sum()) > 0.93
    assert all(row["mask"].startswith("my_masks/") for row in rows)
    assert any("6 boxes" in note for note in found.finding.notes)


@pytest.mark.parametrize("layout", ["labelme", "busi"])
def test_an_adoption_that_was_killed_goes_on(layout, tmp_path, monkeypatch):
    folder, recipe = layouts.make_layout(layout, tmp_path), tmp_path / "my.yaml"
    settle, seen = adoption._settle_splits, []

    def look(*args):
        seen.append(recipe.with_suffix(".csv").exists())
        settle(*args)

    monkeypatch.setattr(adoption, "_settle_splits", look)
    found, rows = adopt(folder, recipe)
    assert seen == [False], "a table of another state would be in the way"
    table, text = found.table.read_bytes(), recipe.read_text()
    recipe.unlink()  # as after a kill between the table and the recipe
    for mask in sorted(tmp_path.glob("my_masks/*"))[1:]:
        mask.unlink()
    assert adopt(folder, recipe)[1] == rows
    assert (found.table.read_bytes(), recipe.read_text()) == (table, text)
    recipe.unlink()
    found.table.write_text("id,mine\n")
    with pytest.raises(InputError, match=r"my\.csv exists and is kept"):
        adopt(folder, recipe)
    assert found.table.read_text() == "id,mine\n"
    assert not recipe.exists()
    assert not list(tmp_path.glob(".*"))


def test_masks_of_somebody_else_are_kept(tmp_path):
    folder = layouts.make_layout("labelme", tmp_path)
    layouts.save(tmp_path / "my_masks" / "mine.png", layouts.blob(1))
    with pytest.raises(InputError, match="my_masks exists and is kept"):
        adopt(folder, tmp_path / "my.yaml")
    layouts.save(folder / "in_masks" / "mine.png", layouts.blob(1))
    with pytest.raises(InputError, match="in_masks exists and is kept"):
        adopt(folder, folder / "in.yaml")
    assert [file.name for file in tmp_path.glob("*_masks/*")] == ["mine.png"]


def test_nothing_is_replaced_and_an_empty_folder_is_refused(tmp_path):
    folder = layouts.make_layout("busi", tmp_path)
    adopt(folder, tmp_path / "my.yaml")
    with pytest.raises(InputError, match=r"my\.yaml exists and is kept"):
        adopt(folder, tmp_path / "my.yaml")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        adopt(empty, tmp_path / "other.yaml")
    layouts.save(empty / "a.png", layouts.photo(1, layouts.blob(1)))
    with pytest.raises(InputError, match="none look like masks"):
        adopt(empty, tmp_path / "other.yaml")
    assert not (tmp_path / "other.csv").exists()
