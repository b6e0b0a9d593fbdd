"""Own images and masks: two folders or a table, binary, nested and exclusive classes, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule
from lightning_seg.data.sources.folder import Folder
from lightning_seg.errors import InputError

LABELS = np.zeros((20, 30), np.uint8)
LABELS[4:16, 5:25], LABELS[8:12, 10:15] = 1, 2  # liver, and the tumour inside it


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write(
    root: Path, mask: np.ndarray, ids: tuple[str, ...] = ("a", "b"), suffix: str = ""
) -> Path:
    for index, id in enumerate(ids):
        save(root / "images" / f"{id}.png", np.full((20, 30, 3), (40 * index + 10) % 250, np.uint8))
        save(root / "masks" / f"{id}{suffix}.png", mask)
    return root


def table(root: Path, text: str) -> Path:
    path = root / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_one_class_is_what_exceeds_the_threshold(tmp_path: Path) -> None:
    source = Folder(write(tmp_path, 255 * (LABELS > 0).astype(np.uint8)))
    assert source.ids == ["a", "b"]
    image, mask, _ = source.read("b")
    assert image.shape == (20, 30, 3)
    assert (image == 50).all()
    assert np.array_equal(mask[..., 0], LABELS > 0)
    assert mask.dtype == np.uint8


def test_several_classes_are_the_numbers_from_1(tmp_path: Path) -> None:
    mask = Folder(write(tmp_path, LABELS), classes=("liver", "tumour")).read("a").mask
    assert np.array_equal(mask, np.stack([LABELS == 1, LABELS == 2], axis=2))


def test_nested_classes_share_a_value(tmp_path: Path) -> None:
    mask = (
        Folder(write(tmp_path, LABELS), classes=("liver", "tumour"), labels=([1, 2], 2))
        .read("a")
        .mask
    )
    assert np.array_equal(mask, np.stack([LABELS > 0, LABELS == 2], axis=2))


def test_classes_are_told_by_colour_in_rgb_and_in_palette_files(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 64]], np.uint8)
    write(tmp_path, colours[LABELS])
    palette = Image.fromarray(LABELS, mode="P")
    palette.putpalette(colours.tobytes())
    palette.save(tmp_path / "masks" / "b.png")
    source = Folder(tmp_path, classes=("liver", "tumour"), labels=("#FF0000", "#008040"))
    expected = np.stack([LABELS == 1, LABELS == 2], axis=2)
    assert np.array_equal(source.read("a").mask, expected)
    assert np.array_equal(source.read("b").mask, expected)
    assert np.array_equal(
        Folder(tmp_path, classes=("x", "y")).read("b").mask, expected
    )  # a palette's indices


def test_16_bit_labels_are_read_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, LABELS.astype(np.uint16) * 1000)
    mask = Folder(tmp_path, classes=("x", "y"), labels=(1000, 2000)).read("a").mask
    assert np.array_equal(mask, np.stack([LABELS == 1, LABELS == 2], axis=2))


def test_a_value_of_no_class_is_refused_unless_it_is_background(tmp_path: Path) -> None:
    strange = LABELS.copy()
    strange[0, 0] = 255
    write(tmp_path, strange)
    with pytest.raises(InputError, match=r"a\.png holds 1 value of no class \(255\)"):
        Folder(tmp_path, classes=("x", "y")).read("a")
    assert (
        Folder(tmp_path, classes=("x", "y"), background=(255,)).read("a").mask.sum()
        == (LABELS > 0).sum()
    )
    save(tmp_path / "masks" / "b.png", np.full((20, 30, 3), 7, np.uint8))
    with pytest.raises(InputError, match=r"of no class \(#070707\)"):
        Folder(tmp_path, labels=("#ff0000",)).read("b")
    # a number that is stored three times is that number
    assert Folder(tmp_path, labels=(7,)).read("b").mask.all()
    save(tmp_path / "masks" / "b.png", np.full((20, 30, 3), (7, 7, 9), np.uint8))
    with pytest.raises(
        InputError, match=r"b\.png is a picture of colours \(RGB\), not of label numbers"
    ):
        Folder(tmp_path, labels=(7,)).read("b")


def test_grey_images_have_one_channel_where_asked(tmp_path: Path) -> None:
    root = write(tmp_path, 255 * (LABELS > 0).astype(np.uint8))
    save(root / "images" / "a.png", LABELS * 100)
    assert np.array_equal(Folder(root, in_channels=1).read("a").image[..., 0], LABELS * 100)
    assert Folder(root).read("a").image.shape == (20, 30, 3)


def test_masks_may_bear_a_suffix_and_lie_beside_the_images(tmp_path: Path) -> None:
    for id in ("a", "b"):
        save(tmp_path / "all" / f"{id}.png", np.zeros((20, 30, 3), np.uint8))
        save(tmp_path / "all" / f"{id}_mask.png", 255 * (LABELS > 0).astype(np.uint8))
    source = Folder(tmp_path, images="all", masks="all", mask_suffix="_mask")
    assert source.ids == ["a", "b"]
    assert source.read("a").mask.sum() == (LABELS > 0).sum()


def test_a_pattern_names_the_group_of_an_id(tmp_path: Path) -> None:
    root = write(tmp_path, LABELS * 127, ("P1_a", "P1_b", "P2_a"))
    assert Folder(root, group_pattern=r"^(P\d+)_").groups == {
        "P1_a": "P1",
        "P1_b": "P1",
        "P2_a": "P2",
    }
    for pattern, sentence in (
        ("(X)", "finds no group in the id 'P1_a'"),
        ("P1", "is wrong"),
        ("(", "is wrong"),
    ):
        with pytest.raises(InputError, match=sentence):
            Folder(root, group_pattern=pattern)


def test_a_table_names_files_groups_and_splits(tmp_path: Path) -> None:
    write(tmp_path, 255 * (LABELS > 0).astype(np.uint8), ("a", "b", "c", "Größe 1"))
    rows = "".join(
        f"{id},images/{file}.png,masks/{file}.png,{group},{split}\n"
        for id, file, group, split in (
            ("1", "a", "p", "train"),
            ("2", "b", "p", "train"),
            ("3", "c", "q", "val"),
            ("4", "Größe 1", "r", "test"),
        )
    )
    path = table(tmp_path, "id,image,mask,group,split\n" + rows)
    source = Folder(path)
    assert source.groups == {"1": "p", "2": "p", "3": "q", "4": "r"}
    assert source.read("4").mask.sum() == (LABELS > 0).sum()
    data = SegmentationDataModule("folder", str(path), size=16, batch_size=2, num_workers=0)
    data.setup("fit")
    assert data.split.ids == {"train": ("1", "2"), "val": ("3",), "test": ("4",)}
    assert data.protocol_name == "auto"


def test_the_data_module_takes_classes_and_channels_from_the_options_without_opening_files(
    tmp_path: Path,
) -> None:
    options = {"classes": ["liver", "tumour"], "in_channels": 1}
    data = SegmentationDataModule(
        "folder", str(tmp_path / "later"), size=16, batch_size=2, dataset_options=options
    )
    assert (data.classes, data.in_channels) == (("liver", "tumour"), 1)
    write(tmp_path / "later", LABELS, tuple(f"i{index}" for index in range(10)))
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert tuple(batch["image"].shape) == (2, 1, 16, 16)
    assert tuple(batch["mask"].shape) == (2, 2, 16, 16)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,image\na,b\n", "lacks the column mask"),
        ("id,image,mask,regions\na,b,c,d\n", "did you mean 'region'"),
        ("id,image,mask,gruop\na,b,c,d\n", "did you mean 'group'"),
        ("id,image,mask\na,b,c\na,d,e\n", "has a row 'a' that is incomplete, repeats"),
        ("id,image,mask\na/1,b,c\n", "holds a slash"),
        ("id,image,mask\na,,c\n", "incomplete"),
        ("id,image,mask,split\na,b,c,dev\n", "puts 'a' into 'dev'"),
        ("id,image,mask,split\na,b,c,\n", "puts 'a' into ''"),
        ("id,image,mask\n", "lists no images"),
        ("", "lacks the column id"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Folder(table(tmp_path, text))


def test_a_table_that_is_no_text_or_names_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"id,image,mask\n\xff\xfe,b,c\n")
    with pytest.raises(InputError, match="no table in UTF-8"):
        Folder(tmp_path / "x.csv")
    with pytest.raises(InputError, match=r"gone\.png \(id 'a'\), which does not exist \(2 such"):
        Folder(table(tmp_path, "id,image,mask\na,gone.png,gone.png\n"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": ()}, "give at least one name"),
        ({"classes": ("x", "x")}, "each once"),
        ({"labels": (1, 2)}, "labels has 2 entries for 1 class "),
        ({"labels": ("red",)}, "'red' is neither a number"),
        ({"labels": (-1,)}, "-1 is neither a number"),
        ({"labels": ([1, "#ff0000"],)}, "numbers, or for each colours"),
        ({"labels": ([],)}, "give for each class numbers"),
        ({"in_channels": 4}, "in_channels is 4"),
        ({"mask_threshold": 255}, "mask_threshold is 255"),
    ],
)
def test_a_wrong_option_is_refused_before_any_file_is_read(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        Folder(tmp_path, **options)


def test_a_root_must_be_given_and_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no root is given"):
        Folder()
    with pytest.raises(InputError, match="gone' does not exist"):
        Folder(tmp_path / "gone")


def test_ignored_values_make_a_region_of_0_and_belong_to_no_class(tmp_path: Path) -> None:
    picture = LABELS.copy()
    picture[:2] = 255
    source = Folder(write(tmp_path, picture), classes=("liver", "tumour"), ignore=[255])
    sample = source.read("a")
    assert source.regions
    assert np.array_equal(sample.region, np.where(picture == 255, 0, 2))
    assert np.array_equal(sample.mask, np.stack([LABELS == 1, LABELS == 2], axis=2))
    single = Folder(tmp_path, labels=[[1, 2]], ignore=[255]).read("a")
    assert np.array_equal(single.mask[..., 0], LABELS > 0)
    assert np.array_equal(single.region, sample.region)


def test_ignored_colours_are_told_as_those_of_classes(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 255]], np.uint8)
    source = Folder(write(tmp_path, colours[LABELS]), labels=["#ff0000"], ignore=["#FFFFFF"])
    assert np.array_equal(source.read("a").region, np.where(LABELS == 2, 0, 2))


def test_without_ignored_values_there_is_no_region(tmp_path: Path) -> None:
    source = Folder(write(tmp_path, LABELS), classes=("liver", "tumour"))
    assert not source.regions
    assert source.read("a").region is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ignore": [255]}, r"ignore is \[255\], and the class has no labels; give labels"),
        ({"ignore": [2], "labels": [2]}, "give values that no class has"),
        ({"ignore": ["#ffffff"], "labels": [1]}, "numbers or colours as in labels"),
        ({"ignore": ["white"], "labels": [1]}, "the label 'white' is neither"),
    ],
)
def test_ignored_values_that_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        Folder(write(tmp_path, LABELS), **options)


def test_pictures_in_sub_folders_behind_links_and_of_any_suffix_are_read(tmp_path: Path) -> None:
    mask = 255 * (LABELS > 0).astype(np.uint8)
    root = write(tmp_path / "data", mask, ("a",))
    save(root / "images" / "w.webp", np.zeros((20, 30, 3), np.uint8), lossless=True)
    save(root / "masks" / "w.png", mask)
    for part in ("images", "masks"):
        save(root / part / "p2" / "b.png", np.zeros((20, 30), np.uint8))
        save(tmp_path / "store" / part / "c.png", mask)
        (root / part / "p3").symlink_to(tmp_path / "store" / part, target_is_directory=True)
        (root / part / "p3" / "round").symlink_to(root / part, target_is_directory=True)
    assert Folder(root).ids == ["a", "p2_b", "p3_c", "w"]
    assert Folder(root).read("p3_c").mask.sum() == (LABELS > 0).sum()
    (root / "masks" / "p2" / "b.png").unlink()
    with pytest.raises(InputError, match=r"p2/b\.png has no mask .*1 of 4"):
        Folder(root)


def test_what_is_left_aside_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path, 255 * (LABELS > 0).astype(np.uint8), tuple("abcdefghij"))
    save(root / "masks" / "lonely.png", LABELS)
    (root / "images" / "notes.txt").touch()
    (root / "images" / ".hidden.png").touch()
    sentences = "; ".join(Folder(root).left_aside)
    assert "files in images/ that are no pictures: 1 (notes.txt)" in sentences
    assert "masks without an image: 1 (lonely.png)" in sentences
    _ = SegmentationDataModule("folder", str(root), size=16).source
    assert "folder: 10 images used; left aside: files in images" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("a_mask_1", "a_mask_2"), ("a_mask1",), ("a_mask (1)",)])
@pytest.mark.parametrize("beside", [False, True])
def test_further_masks_of_a_picture_are_read_together(
    tmp_path: Path, names: tuple[str, ...], beside: bool
) -> None:
    masks = tmp_path / ("images" if beside else "masks")
    save(tmp_path / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    save(masks / "a_mask.png", 255 * (LABELS == 1).astype(np.uint8))
    for name in names:
        save(masks / f"{name}.png", 255 * (LABELS == 2).astype(np.uint8))
    source = Folder(tmp_path, masks=masks.name, mask_suffix="_mask")
    assert source.ids == ["a"]
    assert len(source.files("a")) == 2 + len(names)
    assert source.read("a").mask.sum() == (LABELS > 0).sum()


def test_a_numbered_mask_without_a_suffix_is_not_guessed_at(tmp_path: Path) -> None:
    root = write(tmp_path, 255 * (LABELS > 0).astype(np.uint8), ("a", "1", "12"))
    save(root / "masks" / "a_1.png", LABELS)
    with pytest.raises(InputError, match=r"a_1\.png seems to be a further mask .*mask_suffix"):
        Folder(root)


def test_instances_are_one_class_by_labels_nonzero(tmp_path: Path) -> None:
    root = write(tmp_path, LABELS)
    assert Folder(root, labels="nonzero").read("a").mask.sum() == (LABELS > 0).sum()
    with pytest.raises(InputError, match="nonzero makes one class, and there are 2"):
        Folder(root, labels="nonzero", classes=("x", "y"))


def test_black_on_white_masks_are_read_by_their_colours(tmp_path: Path) -> None:
    root = write(tmp_path, 255 * (LABELS == 0).astype(np.uint8))
    source = Folder(root, labels=["#000000"], background=["#ffffff"])
    assert source.read("a").mask.sum() == (LABELS > 0).sum()


def test_a_table_may_name_files_from_ones_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "home", 255 * (LABELS > 0).astype(np.uint8))
    monkeypatch.setenv("HOME", str(root))
    path = table(tmp_path, "id,image,mask\nx,~/images/a.png,home/masks/a.png\n")
    assert Folder(path).read("x").mask.sum() == (LABELS > 0).sum()
    assert Folder(Path("~")).ids == ["a", "b"]


def test_masks_that_mark_their_class_by_different_values_are_refused(tmp_path: Path) -> None:
    shape = (LABELS > 0).astype(np.uint8)
    write(tmp_path, shape, ("b", "c"))
    save(tmp_path / "images" / "a.png", np.full((20, 30, 3), 7, np.uint8))
    save(tmp_path / "masks" / "a.png", 0 * shape)  # an empty mask marks nothing
    assert Folder(tmp_path).read("c").mask.sum() == shape.sum()
    for other, said in ((2 * shape, "2"), (255 * shape, "white"), (rgb(shape), "#ff0000")):
        save(tmp_path / "masks" / "c.png", other)
        with pytest.raises(
            InputError, match=rf"c\.png marks its class by {said}, and .*b\.png by 1"
        ):
            Folder(tmp_path).read("c")  # a source that has read no other mask, as from a cache
        read = Folder(tmp_path, labels="nonzero").read
        assert read("b").mask.sum() == read("c").mask.sum() == shape.sum()


def rgb(mask: np.ndarray) -> np.ndarray:
    return mask[..., None] * np.array([255, 0, 0], np.uint8)


def test_white_of_8_and_of_16_bits_is_one_mark(tmp_path: Path) -> None:
    write(tmp_path, 255 * (LABELS > 0).astype(np.uint8))
    save(tmp_path / "masks" / "b.png", 65535 * (LABELS > 0).astype(np.uint16))
    assert Folder(tmp_path).read("b").mask.sum() == (LABELS > 0).sum()


def save_indexed(path: Path, numbers: np.ndarray, palette: list[int]) -> None:
    picture = Image.fromarray(numbers, "P")
    picture.putpalette(palette)
    picture.save(path)


def test_palettes_that_exchange_colours_are_refused_where_numbers_are_read(tmp_path: Path) -> None:
    black, red, green, blue = [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]
    write(tmp_path, LABELS)
    save_indexed(tmp_path / "masks" / "a.png", LABELS, black + red + green)
    save_indexed(tmp_path / "masks" / "b.png", LABELS, black + red + blue)
    classes = ("liver", "tumour")
    assert Folder(tmp_path, classes=classes).read("b").mask[..., 1].sum() == (LABELS == 2).sum()
    save_indexed(tmp_path / "masks" / "b.png", LABELS, black + green + red)
    with pytest.raises(InputError, match=r"shows #00ff00 where its number is 1, .* where it is 2"):
        Folder(tmp_path, classes=classes).read("b")
    colours = ("#ff0000", "#00ff00")
    mask = Folder(tmp_path, classes=classes, labels=colours).read("b").mask
    assert np.array_equal(mask, np.stack([LABELS == 2, LABELS == 1], axis=2))


def test_a_palette_whose_0_is_not_black_leaves_the_background_of_instances_open(
    tmp_path: Path,
) -> None:
    write(tmp_path, LABELS)
    save_indexed(tmp_path / "masks" / "b.png", LABELS, [68, 1, 84, 0, 0, 0, 9, 9, 9])
    with pytest.raises(InputError, match=r"shows the number 0 as #440154"):
        Folder(tmp_path, labels="nonzero").read("b")


def test_a_picture_is_not_its_own_mask_under_any_name(tmp_path: Path) -> None:
    write(tmp_path, 255 * (LABELS > 0).astype(np.uint8))
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
        path.symlink_to(tmp_path / "images" / path.name)
    with pytest.raises(InputError, match=r"a\.png and its mask .* are one and the same file"):
        Folder(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "images")
    with pytest.raises(InputError, match="are one and the same file"):
        Folder(tmp_path, masks="linked")


def test_a_linked_folder_of_masks_is_that_folder(tmp_path: Path) -> None:
    root = write(tmp_path / "set", 255 * (LABELS > 0).astype(np.uint8))
    (root / "masks").rename(tmp_path / "elsewhere")
    (root / "masks").symlink_to(tmp_path / "elsewhere")
    assert Folder(root).read("a").mask.sum() == (LABELS > 0).sum()
    # masks below the images, under a name that leads there
    inner = root / "images" / "truth"
    (tmp_path / "elsewhere").rename(inner)
    (root / "masks").unlink()
    (root / "masks").symlink_to(inner)
    assert Folder(root).ids == ["a", "b"]
