"""``data check``: duplicates however they are disguised, leaks, damaged files, masks; on pictures drawn here."""

import base64
import io
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import check as integrity
from lightning_seg.data.check import Report, duplicates, examine_data, page, summary
from lightning_seg.data.check import candidates as search
from lightning_seg.data.check.duplicates import find_duplicates
from lightning_seg.data.check.facts import Facts, gather
from lightning_seg.data.check.registration import features, mirrored, rooted
from lightning_seg.data.check.views import View, view
from lightning_seg.data.sources.base import Sample
from lightning_seg.data.sources.base.pairs import Pairs
from lightning_seg.data.sources.folder import Folder
from lightning_seg.data.splits import make_split
from lightning_seg.errors import InputError

HEIGHT, WIDTH = 200, 256


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@cache
def scene(seed: int) -> np.ndarray:
    """(H, W, 3) uint8: folds, vessels and blobs of a made-up view, in the black frame of an endoscope."""
    rng = np.random.default_rng(seed)
    grey = np.zeros((HEIGHT, WIDTH), np.float32)
    for cells, weight in ((5, 30), (11, 25), (30, 18), (70, 9)):
        grey += weight * cv2.resize(
            rng.standard_normal((cells, cells), np.float32), (WIDTH, HEIGHT)
        )
    for _ in range(25):
        centre, radius = rng.integers(0, (WIDTH, HEIGHT)).tolist(), int(rng.integers(3, 14))
        cv2.circle(grey, centre, radius, float(rng.normal(0, 60)), int(rng.choice([-1, 2])))
    picture = np.stack([150 + grey, 90 + 0.8 * grey, 70 + 0.6 * grey], axis=2)
    return framed(picture.clip(45, 255).astype(np.uint8))


def framed(picture: np.ndarray) -> np.ndarray:
    picture = picture.copy()
    picture[:, :10] = picture[:, -10:] = picture[:8] = picture[-8:] = 0
    return picture


def recompressed(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=60)
    return np.array(Image.open(file))


def moved(picture: np.ndarray, pixels: float, seed: int = 0) -> np.ndarray:
    """The view as it looks a second later: shifted smoothly by about so many pixels, other noise."""
    rng = np.random.default_rng(seed)
    shifts = [
        cv2.resize(rng.normal(0, pixels, (4, 4)).astype(np.float32), (WIDTH, HEIGHT))
        for _ in range(2)
    ]
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    warped = cv2.remap(
        picture, x + shifts[0] + 4, y + shifts[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return framed((warped + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8))


def labelled(picture: np.ndarray, text: str = "14:05:33") -> np.ndarray:
    """With what an endoscope writes and draws over its pictures."""
    picture = picture.copy()
    for row in range(20, 100, 16):
        cv2.putText(picture, text, (12, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1)
    picture[-70:, :80] = (0, 120, 0)
    return picture


class Scenes:
    """A source in memory."""

    classes = ("lesion",)
    in_channels = 3
    default_protocol = "none"
    synthetic = False

    def __init__(self, images: dict[str, np.ndarray], groups: dict[str, str] | None = None) -> None:
        self.images, self.ids = images, sorted(images)
        self.groups = {id: id for id in images} | (groups or {})
        self.masks: dict[str, np.ndarray] = {}

    def read(self, id: str) -> Sample:
        image = self.images[id]
        rng = np.random.default_rng(list(id.encode()))
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.circle(mask, rng.integers(40, 150, 2).tolist(), int(rng.integers(5, 30)), 1, -1)
        return Sample(image, self.masks.get(id, mask)[..., None])


def facts_of(images: dict[str, np.ndarray]) -> list[Facts]:
    return [fact for fact in gather(Scenes(images), sorted(images)) if isinstance(fact, Facts)]


def kinds(images: dict[str, np.ndarray]) -> dict[str, str]:
    return {f"{pair.first}-{pair.second}": pair.kind for pair in find_duplicates(facts_of(images))}


def strangers(count: int = 8) -> dict[str, np.ndarray]:
    return {f"s{seed}": scene(seed) for seed in range(100, 100 + count)}


def test_unrelated_pictures_are_no_pair_even_under_one_overlay() -> None:
    plain = strangers(12)
    assert kinds(plain) == {}
    assert kinds({id: labelled(picture) for id, picture in plain.items()}) == {}


DISGUISES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "recompressed": recompressed,
    "smaller": lambda p: cv2.resize(p, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "cropped": lambda p: recompressed(p[24:, 40:230]),
    "cropped by a third": lambda p: p[:, 84:].copy(),
    "a quarter turn": lambda p: np.rot90(p).copy(),
    "half a turn": lambda p: recompressed(np.rot90(p, 2)),
    "mirrored": lambda p: recompressed(p[:, ::-1]),
    "upside down": lambda p: p[::-1].copy(),
    "transposed": lambda p: p.transpose(1, 0, 2).copy(),
    "darker": lambda p: (p * 0.8).astype(np.uint8),
    "labelled": labelled,
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_copy_is_found_in_every_disguise(disguise: str) -> None:
    original = scene(1)
    assert kinds(strangers() | {"a": original, "b": DISGUISES[disguise](original)}) == {
        "a-b": "same picture"
    }


def test_pictures_equal_in_each_pixel_are_identical_however_their_masks_differ() -> None:
    assert kinds(strangers(3) | {"a": scene(1), "b": scene(1), "c": scene(1)}) == {
        "a-b": "identical",
        "a-c": "identical",
        "b-c": "identical",
    }
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert kinds({"a": flat, "b": flat + np.uint8(1)}) == {}  # nothing is to be seen on them


def test_two_frames_of_one_view_are_told_from_two_copies_and_from_two_views() -> None:
    view = scene(2)
    images = strangers() | {"a": labelled(view), "b": labelled(moved(view, 4), "14:05:37")}
    assert kinds(images) == {"a-b": "same view"}
    (pair,) = find_duplicates(facts_of({id: images[id] for id in "ab"}))
    for bound, found in ((pair.likeness - 0.01, 1), (pair.likeness + 0.01, 0)):
        assert len(find_duplicates(facts_of({id: images[id] for id in "ab"}), least=bound)) == found


def test_in_images_drawn_by_a_program_only_identical_ones_are_pairs() -> None:
    source = Scenes({"a": scene(1), "b": scene(1), "c": recompressed(scene(1))})
    assert len(examine_data("mine", source, []).pairs) == 3
    source.synthetic = True
    report = examine_data("mine", source, [])
    assert [pair[:3] for pair in report.pairs] == [("a", "b", "identical")]
    source.images["b"] = scene(2)
    assert "were not sought" in str(summary.lines(examine_data("mine", source, [])))


@pytest.mark.parametrize("turn", range(8))
def test_the_corners_of_a_turned_picture_say_where_its_pixels_went(turn: int) -> None:
    picture = scene(3)[:, :, 0]
    corners = np.array([(-0.5, -0.5), (WIDTH - 0.5, -0.5), (-0.5, HEIGHT - 0.5)], np.float32)
    turned = np.ascontiguousarray(search._turned(picture, turn))
    height, width = turned.shape
    there = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (-0.5, height - 0.5)], np.float32)
    matrix = cv2.getAffineTransform(search._turned_corners(corners, turn), there)
    assert np.abs(cv2.warpAffine(picture, matrix, (width, height)).astype(int) - turned).max() <= 1


def report_of(source: Any, train: list[str], test: list[str], **more: Any) -> Report:
    assigned = dict.fromkeys(train, "train") | dict.fromkeys(test, "test") | {"v": "val"}
    return examine_data("mine", source, [make_split("mine", "1", "", assigned)], **more)


def test_what_shows_the_same_in_two_splits_is_a_leak_and_within_one_is_not() -> None:
    source = Scenes(strangers(4) | {"a": scene(1), "b": recompressed(scene(1)), "v": scene(9)})
    apart = report_of(source, ["a", "s100", "s101"], ["b", "s102", "s103"])
    together = report_of(source, ["a", "b", "s100"], ["s101", "s102"])
    assert (apart.exit_code, together.exit_code) == (1, 0)
    assert [(pair.first, pair.second) for pair in apart.protocols[0].pairs] == [("a", "b")]
    (leak,) = [line.text for line in summary.lines(apart) if line.level == "leak"]
    assert "a (train) and b (test), same picture" in leak
    assert "1 same picture" in str(summary.lines(together))
    unused = report_of(source, ["a", "s100"], ["s101"])  # b stands in no split
    assert unused.exit_code == 0


def test_a_group_that_crosses_splits_is_a_leak_though_nothing_looks_alike() -> None:
    source = Scenes(strangers(4) | {"v": scene(9)}, {"s100": "patient 1", "s102": "patient 1"})
    report = report_of(source, ["s100", "s101"], ["s102", "s103"])
    assert report.protocols[0].groups == (("patient 1", ("test", "train")),)
    assert report.exit_code == 1
    assert report_of(source, ["s100", "s102"], ["s101", "s103"]).exit_code == 0


def test_ids_that_the_data_lack_and_a_wrong_number_of_images_are_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Scenes(strangers(2) | {"v": scene(9)})
    report = report_of(source, ["s100"], ["s101", "gone"])
    assert (report.protocols[0].missing, report.exit_code) == (("gone",), 1)
    for official, code in ((3, 0), (4, 1)):
        monkeypatch.setitem(integrity.OFFICIAL, "mine", official)
        assert report_of(source, ["s100"], ["s101"]).exit_code == code


def write_folder(root: Path, count: int = 4, mask_quality: int = 0) -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for index in range(count):
        Image.fromarray(scene(200 + index)).save(root / "images" / f"p{index}.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.ellipse(mask, (120, 90), (30 + 9 * index, 25), 20 * index, 0, 360, 255, -1)
        name = f"p{index}.jpg" if mask_quality else f"p{index}.png"
        Image.fromarray(mask).save(
            root / "masks" / name, **({"quality": mask_quality} if mask_quality else {})
        )
    return root


def test_damaged_files_are_each_named_and_the_others_checked(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "Größe 1", 7)
    whole = (root / "images" / "p0.png").read_bytes()
    (root / "images" / "p0.png").write_bytes(whole[: len(whole) // 2])
    (root / "masks" / "p1.png").write_bytes(b"")
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(root / "masks" / "p2.png")
    Image.fromarray(scene(5)).save(root / "masks" / "p3.png")
    Image.fromarray(scene(5)[..., 0].astype(np.uint16) * 99).save(root / "images" / "p4.png")
    source = Folder(root)
    report = examine_data("folder", source, [])
    assert [damage.id for damage in report.damages] == ["p0", "p1", "p2", "p3", "p4"]
    for damage, reason in zip(
        report.damages,
        ("cannot be decoded", r"\(0 bytes\)", "differ in size", "is no mask", "8 bits"),
        strict=True,
    ):
        assert re.search(rf"{damage.id}\.png.*{reason}", damage.sentence)
    assert [fact.id for fact in report.facts] == ["p5", "p6"]
    assert report.exit_code == 1
    assert "5 cannot be read" in str(summary.lines(report))
    assert all(
        damage.sentence.split("/")[-1] in page.render_page(report, source).replace("&#39;", "'")
        for damage in report.damages
    )


def test_exchanged_folders_leave_nothing_to_read_and_still_end_in_a_report(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    source = Folder(root, images="masks", masks="images")
    report = examine_data("folder", source, [])
    assert (len(report.damages), report.facts, report.exit_code) == (4, [], 1)
    assert "exchanged" in page.render_page(report, source)


def test_the_safe_thresholds_are_those_that_leave_the_masks_as_they_are(tmp_path: Path) -> None:
    root = write_folder(tmp_path, 4, mask_quality=80)
    found = examine_data("folder", Folder(root), []).greys
    assert found is not None
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted((root / "masks").iterdir())])
    counts = np.array([(pixels > threshold).sum() for threshold in range(255)])
    safe = np.abs(counts - counts[127]) <= counts[127] / 1000
    assert safe[found.lowest : found.highest + 1].all()
    assert not safe[found.lowest - 1]
    assert not safe[found.highest + 1]
    assert found.values == len(np.unique(pixels))
    assert len(found.lossy) == 4
    dice = [2 * (one > 127).sum() / ((one > 127).sum() + (one > 0).sum()) for one in pixels]
    assert found.dice_at_zero == pytest.approx(np.mean(dice))
    clean = examine_data("folder", Folder(write_folder(tmp_path / "clean")), []).greys
    assert clean is not None
    assert (clean.lossy, clean.lowest, clean.highest, clean.dice_at_zero) == ((), 0, 254, 1.0)


def test_numbers_of_labels_have_no_threshold_and_strange_ones_are_damage(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        labels = np.asarray(Image.open(path)) // 255 * (7 if index == 2 else 1 + index % 2)
        Image.fromarray(labels.astype(np.uint8)).save(path)
    report = examine_data("folder", Folder(root, classes=("a", "b")), [])
    assert report.greys is None
    (damage,) = report.damages
    assert re.search(r"p2\.png holds 1 value of no class \(7\)", damage.sentence)


def test_empty_full_and_repeated_masks_are_listed() -> None:
    source = Scenes({id: scene(seed) for seed, id in enumerate("abcdef")})
    source.masks = {
        "a": np.zeros((HEIGHT, WIDTH), np.uint8),
        "b": np.ones((HEIGHT, WIDTH), np.uint8),
    }
    source.masks |= {"d": source.read("c").mask[..., 0], "e": source.masks["a"]}
    report = examine_data("mine", source, [], near=False)
    assert (report.empty, report.full, report.same_masks) == (["a", "e"], ["b"], [("c", "d")])
    shares = {fact.id: fact.foreground[0] for fact in report.facts}
    assert shares["c"] == pytest.approx(source.read("c").mask.mean())
    assert report.exit_code == 0


def test_of_each_scan_a_few_slices_are_checked_against_the_scans_of_the_protocol() -> None:
    class Volumes(Scenes):
        def expand(self, id: str) -> tuple[str, ...]:
            return tuple(sample for sample in self.ids if id in (sample, self.groups[sample]))

    images = {
        f"{scan}/{slice:02d}": scene(50 * scan_seed + slice)
        for scan_seed, scan in enumerate("xyv")
        for slice in range(9)
    }
    images["y/04"] = recompressed(images["x/04"])
    source = Volumes(images, {id: id.split("/")[0] for id in images})
    report = report_of(source, ["x"], ["y"])
    assert [fact.id for fact in report.facts][:5] == ["v/01", "v/02", "v/04", "v/05", "v/06"]
    assert (report.count, report.exit_code) == (3, 1)
    assert [pair[:2] for pair in report.protocols[0].pairs] == [("x/04", "y/04")]


def test_the_page_needs_no_other_file_and_shows_both_pictures_of_a_pair(tmp_path: Path) -> None:
    source = Scenes(strangers(6) | {"<b>a": scene(1), "é b": recompressed(scene(1)), "v": scene(9)})
    report = report_of(source, ["<b>a", "s100"], ["é b", "s101"])
    page.write_page(report, source, tmp_path / "sub" / "check.html")
    text = (tmp_path / "sub" / "check.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "url(" not in text
    section = re.search(r"<section><h3>same picture.*?</section>", text, re.S)
    assert section is not None
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", section[0])
    assert captions == ["&lt;b&gt;a (mine: train)", "é b (mine: test)"]
    pictures = re.findall(r"base64,([^\"]+)", section[0])
    shown = [cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), 1) for one in pictures]
    assert [picture.shape for picture in shown] == [(219, 280, 3)] * 2
    assert list((tmp_path / "sub").iterdir()) == [tmp_path / "sub" / "check.html"]


def test_a_page_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    source = Scenes(strangers(2))
    report = examine_data("mine", source, [], near=False)
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file" / "page.html", tmp_path):
        with pytest.raises(InputError, match=r"cannot be written .*; give another place"):
            page.write_page(report, source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_names_like_frames_of_one_patient_make_a_protocol_amber_where_no_groups_are_known() -> None:
    images = {
        f"p{patient}_{frame}": scene(10 * patient + frame)
        for patient in (1, 2, 3)
        for frame in (0, 1)
    }
    homes = dict(
        zip(sorted(images), ["train", "test", "train", "train", "val", "val"], strict=True)
    )
    split = make_split("mine", "1", "", homes)
    report = examine_data("mine", Scenes(images), [split], near=False)
    (line,) = [line for line in summary.lines(report) if line.title == "protocol mine"]
    assert line.level == "amber"
    assert "p1_0 (train) and p1_1 (test)" in line.text
    assert "p2_0" not in line.text
    assert report.exit_code == 0
    known = Scenes(images, {id: id[:2] for id in images})
    (told,) = [
        line
        for line in summary.lines(examine_data("mine", known, [split], near=False))
        if line.title == "protocol mine"
    ]
    assert told.level == "leak"
    together = make_split("mine", "1", "", homes | {"p1_1": "train", "p3_1": "test"})
    assert "amber" in {
        line.level
        for line in summary.lines(examine_data("mine", Scenes(images), [together], near=False))
    }


def test_where_no_groups_are_known_and_names_say_nothing_the_report_says_so() -> None:
    images = dict(zip("abc", (scene(1), scene(2), scene(3)), strict=True))
    split = make_split("mine", "1", "", dict(zip("abc", ("train", "val", "test"), strict=True)))
    report = examine_data("mine", Scenes(images), [split], near=False)
    (line,) = [line for line in summary.lines(report) if line.title == "protocol mine"]
    assert (line.level, line.text.endswith("no patients or sequences are known")) == ("ok", True)


def test_two_annotations_of_one_picture_are_compared_where_the_pictures_lie() -> None:
    picture = scene(7)
    turned = np.rot90(
        cv2.resize(picture, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    ).copy()
    source = Scenes({"a": picture, "b": turned, "c": scene(8)})
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.circle(mask, (120, 100), 30, 1, -1)
    half = mask.copy()
    half[:, :120] = 0
    small = cv2.resize(half, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_NEAREST)
    source.masks = {"a": mask, "b": np.rot90(small).copy()}
    split = make_split("mine", "1", "", {"a": "train", "c": "val", "b": "test"})
    report = examine_data("mine", source, [split])
    (found,) = report.annotations
    expected = 2 * half.sum() / (half.sum() + mask.sum())
    assert (found.first, found.second) == ("a", "b")
    assert found.dice[0] == pytest.approx(expected, abs=0.02)
    texts = [line.text for line in summary.lines(report) if "two annotations" in line.text]
    assert [f"Dice of {found.dice[0]:.3f}" in text for text in texts] == [True, True]


def lesion(inverted: bool = False, empty: bool = False) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    if not empty:
        cv2.circle(mask, (120, 90), 20, 1, -1)
    return 1 - mask if inverted else mask


def found(report: Report, title: str) -> list[str]:
    return [line.level for line in summary.lines(report) if line.title == title]


def test_inverted_masks_are_a_fault_and_nearly_full_ones_are_seen() -> None:
    source = Scenes({id: scene(seed) for seed, id in enumerate("abcdv")})
    source.masks = {id: lesion(inverted=True) for id in "abc"}
    report = report_of(source, ["a", "b"], ["c", "d"], near=False)
    assert (report.inverted, report.nearly_full, report.exit_code) == (True, ["a", "b", "c"], 1)
    assert found(report, "inverted masks") == ["fault"]
    assert found(report, "over 90 % masks") == ["amber"]
    assert not report_of(source, ["a", "b"], ["c", "d"], near=False).empty
    source.masks = {"a": lesion(inverted=True)}
    assert not report_of(source, ["a", "b"], ["c", "d"], near=False).inverted


def test_a_split_without_a_class_is_a_fault_and_uneven_splits_are_seen() -> None:
    source = Scenes({id: scene(seed) for seed, id in enumerate("abcdefv")})
    source.masks = {id: lesion(empty=True) for id in "def"}
    report = report_of(source, ["a", "b", "c"], ["d", "e", "f"], near=False)
    assert report.exit_code == 1
    assert "none of the 3 test masks shows lesion" in str(summary.lines(report))
    assert found(report, "protocol mine") == ["fault", "amber"]
    assert found(report, "empty masks") == ["amber"]
    even = report_of(source, ["a", "b", "d"], ["c", "e"], near=False)
    assert (even.exit_code, found(even, "protocol mine")) == (0, ["ok"])


def test_a_folder_of_several_classes_is_checked_and_says_what_it_leaves_aside(
    tmp_path: Path,
) -> None:
    root = write_folder(tmp_path, 5)
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        labels = np.asarray(Image.open(path)) // 255 * (1 + index % 2)
        Image.fromarray(labels.astype(np.uint8)).save(path)
    (root / "images" / "notes.txt").touch()
    report = examine_data("folder", Folder(root, classes=("a", "b")), [], near=False)
    assert report.classes == ("a", "b")
    assert (report.greys, report.exit_code) == (None, 0)
    text = page.render_page(report, Folder(root, classes=("a", "b")))
    assert "Share of an image that is b" in text
    assert "notes.txt" in text


def test_masks_whose_one_value_differs_may_be_of_several_classes(tmp_path: Path) -> None:
    root = write_folder(tmp_path, 5)
    assert found(examine_data("folder", Folder(root), [], near=False), "mask values") == ["ok"]
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        labels = np.asarray(Image.open(path)) // 255 * (1 + index % 2)
        Image.fromarray(labels.astype(np.uint8)).save(path)
    report = examine_data("folder", Folder(root), [], near=False)
    assert (len(report.damages), report.exit_code) == (2, 1)
    assert "marks its class by 2, and" in report.damages[0].sentence
    # a data set of a known owner is read, and the values are seen
    report = examine_data("own", _Own(root), [], near=False)
    [line] = [line for line in summary.lines(report) if line.title == "mask values"]
    assert line.level == "amber"
    assert line.text.endswith("1 in 3, 2 in 2")


class _Own(Pairs):
    classes = ("polyp",)
    names = ("own",)
    title = "own"


def test_trees_find_the_owners_that_the_full_search_finds() -> None:
    rng = np.random.default_rng(0)
    target = rng.standard_normal((1600, 32)).astype(np.float32)
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    owners = np.repeat(np.arange(50), 32)
    partner = target[rng.permutation(1600)[:400]] + rng.normal(0, 0.02, (400, 32))
    target[:400] = partner / np.linalg.norm(partner, axis=1, keepdims=True)
    exact = search._exact_owners(target, target, owners)
    near = search._near_owners(target, target, owners)
    products = target @ target.T
    products[owners[:, None] == owners] = -1
    assert (exact == owners[products.argmax(axis=1)]).all()
    assert (near[:400] == exact[:400]).mean() > 0.7  # of 32 axes at random, the hardest case
    assert (near != owners).all()


def test_many_pictures_are_compared_by_trees_and_their_copies_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_EXACT", 4)
    mirror = recompressed(scene(1)[:, ::-1])
    assert kinds(strangers() | {"a": scene(1), "b": mirror}) == {"a-b": "same picture"}


def test_what_was_searched_before_is_kept_by_the_content_of_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = strangers(3) | {"a": scene(1), "b": recompressed(scene(1))}
    first = find_duplicates(facts_of(images))
    monkeypatch.setattr(duplicates, "features", None)  # would fail
    assert find_duplicates(facts_of(images)) == first
    renamed = {f"x{id}": image for id, image in images.items()}
    assert [pair.kind for pair in find_duplicates(facts_of(renamed))] == ["same picture"]
    with pytest.raises(TypeError):
        find_duplicates(facts_of(images | {"c": scene(2)}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert find_duplicates(facts_of(images)) == first


def test_features_of_a_mirror_image_are_those_of_the_picture_with_their_fields_exchanged() -> None:
    picture = view(scene(1))
    found = rooted(features(View(picture.grey[:, ::-1].copy(), picture.box)))
    expected = rooted(mirrored(features(picture)))
    likeness = expected.descriptors @ found.descriptors.T
    places = found.points[likeness.argmax(axis=1)]
    there = np.stack([WIDTH - 1 - places[:, 0], places[:, 1]], axis=1)
    assert (np.abs(there - expected.points).max(axis=1) < 2).mean() > 0.8


@pytest.mark.parametrize(
    "disguise",
    [
        lambda p: 255 - p,
        lambda p: recompressed(255 - p),
        lambda p: cv2.resize(255 - p, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
        lambda p: np.ascontiguousarray(255 - p[:, ::-1]),
        lambda p: np.ascontiguousarray(np.rot90(255 - p)),
        lambda p: recompressed(255 - p[p.shape[0] // 6 :, p.shape[1] // 5 :]),
        lambda p: np.ascontiguousarray(255 - p[p.shape[0] // 5 :, p.shape[1] // 5 :][:, ::-1]),
    ],
    ids=["plain", "recompressed", "smaller", "mirrored", "turned", "cropped", "cropped, mirrored"],
)
def test_the_negative_of_a_picture_is_a_pair(disguise: Callable[[np.ndarray], np.ndarray]) -> None:
    images = {"a": scene(1), "b": disguise(scene(1)), **strangers()}
    assert kinds(images) == {"a-b": "negative"}
