"""Names that an eye or a disk takes for one are found, and their results kept apart."""

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.files.alike_names import alike_names, folded_name, tells_capitals
from lightning_seg.inference import output_names


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("A.png", "a.png", True),
        ("a .png", "a.png", True),
        (" a", "a", True),
        ("p1/A", "P1/a ", True),
        ("u\u0308", "\u00fc", True),
        ("a b", "ab", False),
        ("a_1", "a_01", False),
    ],
)
def test_capitals_and_spaces_at_the_ends_make_no_other_name(one, other, alike):
    assert (folded_name(one) == folded_name(other)) is alike
    assert alike_names([one, other, "z"]) == ([[one, other]] if alike else [])


def test_results_that_would_replace_each_other_are_refused(tmp_path, monkeypatch):
    (tmp_path / "probe").touch()
    expected = not (tmp_path / "PROBE").exists()
    assert tells_capitals(tmp_path) is expected
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]
    for tells in (True, False):
        monkeypatch.setattr(output_names, "tells_capitals", lambda _, told=tells: told)
        output_names.check_outputs_apart(["A", "b"], tmp_path)
    with pytest.raises(InputError, match="'A' and 'a' would replace each other"):
        output_names.check_outputs_apart(["A", "b", "a"], tmp_path)


def test_alike_ids_are_said_and_alike_masks_are_named(tmp_path, capsys):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for stem in ("A", "b", "c", "d", "e"):
            file = tmp_path / name / f"{stem if name == 'images' else stem.lower()}.png"
            Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(file)
    data = {"dataset": "folder", "root": str(tmp_path), "size": 8, "batch_size": 1}
    with pytest.raises(InputError, match=r"A.png has no mask .*; a.png differs by capitals"):
        _ = SegmentationDataModule(**data).source
    for folder, name in (("masks", "A.png"), ("images", "B .png"), ("masks", "B .png")):
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / folder / name)
    _ = SegmentationDataModule(**data).source
    assert "taken for different pictures: 'B ' and 'b'; files named so" in capsys.readouterr().err
