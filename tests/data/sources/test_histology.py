"""GlaS and MoNuSeg in their owners' layouts, drawn small."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image

from lightning_seg.data import SegmentationDataModule, load_protocol
from lightning_seg.data.sources import glas, monuseg
from lightning_seg.data.sources.glas import GlaS
from lightning_seg.data.sources.monuseg import MoNuSeg, outlines, rasterise
from lightning_seg.data.splits import PROTOCOLS, check
from lightning_seg.errors import InputError

SHAPE = (40, 50)
TRIANGLE = np.array([(5.2, 4.1), (30.7, 8.3), (12.4, 33.9)])
BOWTIE = np.array([(35.0, 5.0), (49.6, 20.0), (35.0, 20.0), (49.6, 5.0)])
OUTSIDE = np.array([(-8.5, 30.0), (6.0, 30.0), (6.0, 60.0), (-8.5, 60.0)])


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)


def write_glas(folder: Path, ids: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, id in enumerate(ids):
        glands = np.zeros(SHAPE, np.uint8)
        glands[2:10, 3:20], glands[20:30, 3:20], glands[32:38, 5:9] = 1, 2, 60
        Image.fromarray(picture(seed)).save(folder / f"{id}.bmp")
        Image.fromarray(glands).save(folder / f"{id}_anno.bmp")
    (folder / "Grade.csv").write_text("name,patient ID, grade (GlaS)\n")
    return folder


def test_all_glands_are_one_class_whatever_their_number(tmp_path: Path) -> None:
    source = GlaS(
        write_glas(
            tmp_path / "Warwick QU Dataset (Released 2016_07_08)",
            ["train_1", "testA_12", "testB_20"],
        )
    )
    assert source.ids == ["testA_12", "testB_20", "train_1"]
    assert source.groups == {
        "train_1": "patient 2",
        "testA_12": "patient 11",
        "testB_20": "patient 7",
    }
    image, mask, _ = source.read("train_1")
    assert np.array_equal(image, picture(0))
    assert mask.shape == (*SHAPE, 1)
    assert mask.sum() == 8 * 17 + 10 * 17 + 6 * 4
    assert GlaS(tmp_path).ids == source.ids


def test_the_challenges_split_of_glas_says_that_it_shares_patients(tmp_path: Path) -> None:
    split, patients = load_protocol("glas"), glas.glas_patients()
    assert [len(ids) for ids in split.ids.values()] == [77, 8, 80]
    assert glas.protocol() == (PROTOCOLS / "glas.csv").read_text(encoding="utf-8")
    assert (len(patients), len(set(patients.values()))) == (165, 16)
    homes = {name: {patients[id] for id in ids} for name, ids in split.ids.items()}
    assert homes["train"].isdisjoint(homes["val"])
    assert sum(patients[id] in homes["train"] | homes["val"] for id in split.ids["test"]) == 79
    assert split.leaks
    assert split.rule.startswith("LEAKS: 79 of the 80")


def test_glas_can_be_divided_by_patient(tmp_path: Path) -> None:
    folder = write_glas(tmp_path, list(glas.glas_patients()))
    check(load_protocol("glas"), GlaS(folder))
    data = SegmentationDataModule(
        "glas", str(folder), protocol="fold-1-of-5", size=16, batch_size=2
    )
    homes = [{data.source.groups[id] for id in data.ids(name)} for name in ("train", "val", "test")]
    assert sum(map(len, homes)) == 16
    assert not data.leaks


def test_what_is_not_glas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not hold train_1_anno\.bmp"):
        GlaS(tmp_path)
    with pytest.raises(InputError, match=r"train_86\.bmp is no picture of GlaS"):
        GlaS(write_glas(tmp_path, ["train_86"]))


def annotation(polygons: list[np.ndarray]) -> str:
    """An ImageScope file as the owners': attributes and elements that do not matter are there too."""
    regions = "".join(
        f'<Region Id="{index}" Type="0" Area="1.5"><Attributes/><Vertices>'
        + "".join(f'<Vertex X="{x:.6f}" Y="{y:.6f}" Z="0"/>' for x, y in polygon)
        + "</Vertices></Region>"
        for index, polygon in enumerate(polygons, start=1)
    )
    return (
        '<Annotations MicronsPerPixel="0.252000"><Annotation Id="1" LineColor="65280"><Attributes/>'
        f"<Regions><RegionAttributeHeaders/>{regions}</Regions><Plots/></Annotation></Annotations>"
    )


def write_monuseg(root: Path, ids: dict[str, list[str]]) -> Path:
    """Training pictures in two folders, test pictures beside their outlines, as the two archives unpack."""
    for half, names in ids.items():
        images, truths = ("Tissue Images", "Annotations") if "Training" in half else (".", ".")
        for seed, name in enumerate(names):
            for part in (images, truths):
                (root / half / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(seed)).save(root / half / images / f"{name}.tif")
            (root / half / truths / f"{name}.xml").write_text(annotation([TRIANGLE, BOWTIE]))
    return root


def inside(polygon: np.ndarray) -> np.ndarray:
    """(H, W) bool by an independent implementation: matplotlib's, at the centres of the pixels."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    return (
        Polygon(np.vstack([polygon, polygon[:1]]), closed=True)
        .contains_points(centres)
        .reshape(SHAPE)
    )


@pytest.mark.parametrize("polygon", [TRIANGLE, OUTSIDE, TRIANGLE[::-1]])
def test_a_pixel_is_nucleus_where_its_centre_lies_inside(polygon: np.ndarray) -> None:
    assert np.array_equal(rasterise([polygon], SHAPE), inside(polygon))
    assert inside(polygon).sum() > 50


def test_random_outlines_are_filled_as_the_reference_fills_them() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radii = rng.uniform(4, 14, 12)
        polygon = np.stack([25 + radii * np.cos(angles), 20 + radii * np.sin(angles)], axis=1)
        assert np.array_equal(rasterise([polygon], SHAPE), inside(polygon))


def test_outlines_join_and_those_without_area_are_empty() -> None:
    both = rasterise([TRIANGLE, BOWTIE, TRIANGLE[:2]], SHAPE)
    assert np.array_equal(both, rasterise([TRIANGLE], SHAPE) | rasterise([BOWTIE], SHAPE))
    assert rasterise([TRIANGLE[:2], np.zeros((0, 2)), TRIANGLE + 500], SHAPE).sum() == 0


def test_monuseg_is_read_as_its_two_archives_unpack(tmp_path: Path) -> None:
    split = load_protocol("monuseg")
    training, extra = [*split.ids["train"], *split.ids["val"]], "TCGA-XX-0000-01Z-00-DX1"
    halves = {
        "MoNuSeg 2018 Training Data": [*training, extra],
        "MoNuSegTestData": list(split.ids["test"]),
    }
    source = MoNuSeg(write_monuseg(tmp_path / "MoNuSeg", halves))
    assert len(source.ids) == 45
    assert source.groups["TCGA-G9-6336-01Z-00-DX1"] == "TCGA-G9-6336"
    check(split, source)
    for half, names in halves.items():
        image, mask, _ = source.read(names[2])
        assert np.array_equal(image, picture(2)), half
        assert np.array_equal(mask[..., 0], rasterise([TRIANGLE, BOWTIE], SHAPE))


def test_monuseg_also_takes_binary_masks(tmp_path: Path) -> None:
    for half, id in (
        ("Train_Folder", "TCGA-18-5592-01Z-00-DX1"),
        ("Test_Folder", "TCGA-HT-8564-01Z-00-DX1"),
    ):
        for part, pixels in (("img", picture(1)), ("labelcol", 255 * rasterise([TRIANGLE], SHAPE))):
            (tmp_path / half / part).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / half / part / f"{id}.png")
    source = MoNuSeg(tmp_path)
    assert len(source.ids) == 2
    assert np.array_equal(
        source.read("TCGA-HT-8564-01Z-00-DX1").mask[..., 0], rasterise([TRIANGLE], SHAPE)
    )


def test_the_split_of_monuseg_is_the_challenges(tmp_path: Path) -> None:
    split = load_protocol("monuseg")
    assert [len(ids) for ids in split.ids.values()] == [24, 6, 14]
    assert monuseg.protocol() == (PROTOCOLS / "monuseg.csv").read_text(encoding="utf-8")
    ids = [id for members in split.ids.values() for id in members]
    assert len({"-".join(id.split("-")[:3]) for id in ids}) == 44


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<Annotations>",
        "<Annotations/>",
        '<R><Region><Vertex X="1"/></Region></R>',
        '<R><Region><Vertex X="1" Y="b"/></Region></R>',
    ],
)
def test_unreadable_outlines_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.xml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"broken\.xml holds no"):
        outlines(path)


def test_a_picture_without_truth_or_with_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures below"):
        MoNuSeg(tmp_path)
    write_monuseg(tmp_path, {"MoNuSegTestData": ["x", "y"]})
    (tmp_path / "MoNuSegTestData" / "y.xml").unlink()
    with pytest.raises(
        InputError, match=r"y\.tif has neither outlines \(\.xml\) nor a mask \(1 of 2"
    ):
        MoNuSeg(tmp_path)
    write_monuseg(tmp_path, {"Training": ["x"], "MoNuSegTestData": ["x", "y"]})
    with pytest.raises(InputError, match="bear one name"):
        MoNuSeg(tmp_path)
