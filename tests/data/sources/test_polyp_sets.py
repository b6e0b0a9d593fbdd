"""Kvasir-Sessile, the PraNet bundle, Medico and EndoTect in their layouts, drawn small."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import SegmentationDataModule, load_protocol
from lightning_seg.data.sources import kvasir_seg, kvasir_sessile
from lightning_seg.data.sources.endotect import EndoTect
from lightning_seg.data.sources.kvasir_sessile import KvasirSessile
from lightning_seg.data.sources.medico import Medico
from lightning_seg.data.sources.pranet import TESTS, PraNet
from lightning_seg.data.splits import PROTOCOLS, check
from lightning_seg.errors import InputError

MakeKvasir = Callable[..., Path]
SESSILE = sorted(id for ids in load_protocol("kvasir-sessile").ids.values() for id in ids)


def test_the_sessile_frames_are_taken_from_the_whole_of_kvasir_or_their_own_folder(
    make_kvasir: MakeKvasir, tmp_path: Path
) -> None:
    folder = make_kvasir(tmp_path, (*SESSILE[:3], "another"))
    source = KvasirSessile(tmp_path)
    assert source.ids == SESSILE[:3]
    assert source.read(SESSILE[0]).mask.shape == (60, 80, 1)
    folder.rename(tmp_path / "sessile-main-Kvasir-SEG")
    assert KvasirSessile(tmp_path).ids == SESSILE[:3]
    with pytest.raises(InputError, match="names 193 of 196 ids that the data set lacks"):
        check(load_protocol("kvasir-sessile"), source)
    with pytest.raises(InputError, match="does not hold images/ and masks/"):
        KvasirSessile(tmp_path / "sessile-main-Kvasir-SEG" / "images")


def test_the_sessile_split_follows_its_rule_and_says_that_it_is_inside_kvasir() -> None:
    split = load_protocol("kvasir-sessile")
    assert [len(ids) for ids in split.ids.values()] == [156, 20, 20]
    assert kvasir_sessile.protocol(SESSILE) == (PROTOCOLS / "kvasir-sessile.csv").read_text(
        encoding="utf-8"
    )
    assert "no independent test for a network trained there" in split.rule
    kvasir = {id for ids in load_protocol("kvasir-unet-a").ids.values() for id in ids}
    assert set(SESSILE) <= kvasir
    known = kvasir_seg.duplicate_groups()
    home = {id: name for name, ids in split.ids.items() for id in ids}
    pairs = [(id, group) for id, group in known.items() if id in home and group in home]
    assert all(home[id] == home[group] for id, group in pairs)


def test_the_real_sessile_frames_are_found_in_the_real_kvasir() -> None:
    if "LIGHTNING_SEG_DATA" not in os.environ:
        pytest.skip("LIGHTNING_SEG_DATA is not set: the real Kvasir-SEG is not at hand")
    source = KvasirSessile()
    check(load_protocol("kvasir-sessile"), source)
    shares = [source.read(id).mask.mean() for id in source.ids[::40]]
    assert 0 < min(shares) < max(shares) < 0.5


def write(folder: Path, stems: list[str], images: str = "images", masks: str = "masks") -> None:
    for stem in stems:
        mask = np.zeros((20, 24), np.uint8)
        mask[4:10, 4 : 6 + len(stem) % 10] = 255
        for part, pixels in ((images, np.full((20, 24, 3), len(stem), np.uint8)), (masks, mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"{stem}.png")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Frames 1 to 60 of CVC-ClinicDB are its sequences 1 to 3; a pair of Kvasir's duplicates is among the training frames."""
    pair = ["cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe"]
    frames = [str(frame) for frame in range(1, 61) if frame % 10]
    write(
        tmp_path / "TrainDataset",
        pair + [f"cju{index}" for index in range(20)] + frames,
        "image",
        "mask",
    )
    write(tmp_path / "TestDataset" / "CVC-ClinicDB", ["10", "20", "30"])
    write(tmp_path / "TestDataset" / "Kvasir", ["cju99"])
    for name in ("CVC-300", "CVC-ColonDB", "ETIS-LaribPolypDB"):
        write(tmp_path / "TestDataset" / name, ["1", "2"])
    return tmp_path


def data(root: Path, protocol: str | None = None) -> SegmentationDataModule:
    return SegmentationDataModule(
        "pranet", str(root), protocol=protocol, size=16, batch_size=2, num_workers=0
    )


def test_the_bundle_trains_on_its_training_folder_and_tests_on_all_five(bundle: Path) -> None:
    module = data(bundle)
    source = module.source
    assert [len(module.ids(name)) for name in ("train", "val", "test")] == [68, 8, 10]
    assert all(
        id.startswith("TrainDataset_") for name in ("train", "val") for id in module.ids(name)
    )
    homes = [{source.groups[id] for id in module.ids(name)} for name in ("train", "val")]
    assert homes[0].isdisjoint(homes[1])
    assert (
        source.groups["TrainDataset_cju886ryxnsl50801r93jai7q"]
        == source.groups["TrainDataset_cju8amfdtqi4x09871tygrgqe"]
    )
    assert (
        source.groups["TrainDataset_1"]
        == source.groups["CVC-ClinicDB_10"]
        == "CVC-ClinicDB sequence 1"
    )
    assert source.groups["ETIS-LaribPolypDB_1"] == "ETIS-LaribPolypDB_1"
    assert module.leaks
    assert source.read("TrainDataset_1").mask.sum() == 6 * 3


def test_a_test_set_that_holds_a_twin_of_a_training_frame_says_so(bundle: Path) -> None:
    assert not data(bundle, "pranet-kvasir").split.leaks
    write(bundle / "TestDataset" / "Kvasir", ["cju6uzxk0v83p0801rcwnexdu"])
    assert not data(bundle, "pranet-kvasir").split.leaks
    write(bundle / "TrainDataset", ["cju89y9h0puti0818i5yw29e6"], "image", "mask")
    assert data(bundle, "pranet-kvasir").split.leaks
    assert not data(bundle, "pranet-etis").split.leaks
    assert data(bundle, "pranet-clinicdb").split.leaks


@pytest.mark.parametrize("protocol", TESTS)
def test_each_test_set_is_tested_alone(bundle: Path, protocol: str) -> None:
    module = data(bundle, protocol)
    module.setup("test")
    assert all(id.startswith(f"{TESTS[protocol]}_") for id in module.ids("test"))
    assert len(module.ids("test")) == len(
        list((bundle / "TestDataset" / TESTS[protocol] / "images").iterdir())
    )
    assert module.protocol_name == protocol
    with pytest.raises(InputError, match=f"protocol {protocol} has no train ids"):
        module.setup("fit")


def test_a_part_of_the_bundle_serves_the_protocols_that_need_no_more(
    bundle: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "PraNet"
    alone.mkdir()
    (bundle / "TestDataset").rename(alone / "TestDataset")
    assert len(data(tmp_path / "PraNet", "pranet-etis").ids("test")) == 2
    with pytest.raises(
        InputError, match=r"protocol pranet needs TrainDataset/, which is missing; .*pranet-kvasir"
    ):
        _ = data(alone).source
    (alone / "TestDataset" / "CVC-300").rename(tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match="protocol pranet-cvc300 needs TestDataset/CVC-300/, which is missing"
    ):
        _ = data(alone, "pranet-cvc300").source
    (alone / "TestDataset" / "Kvasir" / "masks").rename(tmp_path / "lost")
    with pytest.raises(InputError, match="Kvasir holds neither images/ and masks/"):
        PraNet(alone)
    with pytest.raises(InputError, match="holds neither TrainDataset/ nor TestDataset/"):
        PraNet(tmp_path / "lost")


@pytest.mark.parametrize(("name", "kind"), [("medico", Medico), ("endotect", EndoTect)])
def test_medico_and_endotect_only_test(
    tmp_path: Path, name: str, kind: type[Medico] | type[EndoTect]
) -> None:
    write(tmp_path / kind.names[0], ["b", "a"])
    assert kind(tmp_path).ids == ["a", "b"]
    module = SegmentationDataModule(name, str(tmp_path), size=16, batch_size=2, num_workers=0)
    module.setup("test")
    assert (module.protocol_name, module.ids("test")) == (name, ("a", "b"))
    with pytest.raises(InputError, match=f"protocol {name} has no train ids"):
        module.setup("fit")
    with pytest.raises(InputError, match=f"does not hold images/ and masks/ of {name}"):
        kind(tmp_path / kind.names[0] / "images")
