"""Names of results: no two inputs share one, and none leaves the folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_seg.inference.output_names import LONGEST, mask_files, output_names, safe_path
from tests.inference.conftest import write_checkpoint
from tests.inference.test_predict_pictures import predict, table

PARTS = st.text(st.sampled_from("ab_./\\~%é\x00\n\udce4"), min_size=1, max_size=6)


@given(st.lists(PARTS | st.text(max_size=300), unique=True, max_size=6))
def test_different_texts_have_different_paths_inside(texts):
    paths = [safe_path(text) for text in texts]
    assert len(set(paths)) == len(texts)
    for path in paths:
        place = Path("/folder") / path
        assert ".." not in place.parts
        assert place.is_relative_to("/folder")
        assert all(0 < len(part.encode()) <= LONGEST for part in path.split("/"))
        assert not any(part.startswith(".") for part in path.split("/"))


@given(st.lists(st.sampled_from(["1.png", "1.png.png", "1.jpg", "1", "b/1.png"]), unique=True))
def test_results_of_equal_stems_are_apart(files):
    suffixes = [Path(file).suffix for file in files]
    names = output_names(files, suffixes)
    assert len(set(names)) == len(files)


@pytest.mark.parametrize("classes", [["c", "b_c"], ["b", "c"], ["/../../x", "y"], ["a b", "ü"]])
def test_no_two_masks_share_a_file(classes):
    found = [
        file
        for name in ("a", "a_b", "a_b_c", "a~c")
        for file in mask_files(Path("out"), safe_path(name), classes).values()
    ]
    assert len(set(found)) == len(found)
    assert all(file.parent == Path("out/masks") for file in found)


def test_hostile_class_names_and_inputs_stay_in_the_folder(tmp_path):
    classes = ["/../../x", "b_c", "c"]
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", classes=classes)
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["a.png", "a_b.png", "1.png", "1.png.png", "contact_sheet.png", "x" * 240 + ".png"]
    names += ["y%2F.png", b"latin\xe9.png".decode(errors="surrogateescape")]
    for number, name in enumerate(names):
        Image.fromarray(np.full((9, 8 + number, 3), 90, np.uint8)).save(folder / name)
    before = set(tmp_path.rglob("*"))
    predict(checkpoint, folder, tmp_path / "out", "--coco", "--overlays", "--probabilities")
    inside = {tmp_path / "out", *(tmp_path / "out").rglob("*")}
    assert set(tmp_path.rglob("*")) - before == inside
    assert not list(tmp_path.parent.glob("x*"))
    masks = list((tmp_path / "out" / "masks").rglob("*.png"))
    assert len(masks) == len(names) * len(classes)
    widths = sorted(Image.open(path).width for path in masks)
    assert widths == [width for width in range(8, 8 + len(names)) for _ in classes]
    content = json.loads((tmp_path / "out" / "coco.json").read_text(encoding="utf-8"))
    assert (
        len(content["images"])
        == len(names)
        == len({row["file"] for row in table(tmp_path / "out")})
    )
    written = {path: path.stat().st_mtime_ns for path in masks}
    predict(checkpoint, folder, tmp_path / "out", "--coco", "--overlays", "--probabilities")
    assert {path: path.stat().st_mtime_ns for path in masks} == written
