"""The DataModule: names are checked at once, data are opened when needed, batches are uint8."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler

from lightning_seg.data import DATASETS, SegmentationDataModule, load_protocol
from lightning_seg.data import datamodule as implementation
from lightning_seg.data.sources.base import Sample
from lightning_seg.errors import InputError

PROTOCOL = "# name: fake\nid,split\n" + "".join(
    f"s{index:02d},{'train' if index < 7 else 'val' if index < 9 else 'test'}\n"
    for index in range(12)
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, make_source: type[Any]) -> list[Any]:
    """Registers the data set "fake"; lists the sources that were opened."""
    sources: list[Any] = []

    class Recorded(make_source):  # type: ignore[misc]
        def __init__(self, root: Path | None = None, count: int = 12) -> None:
            super().__init__(count)
            sources.append(self)

    monkeypatch.setitem(DATASETS, "fake", "lightning_seg.data.sources.phantom:Fake")
    monkeypatch.setattr("lightning_seg.data.sources.phantom.Fake", Recorded, raising=False)
    return sources


@pytest.fixture
def protocol(tmp_path: Path) -> str:
    path = tmp_path / "fake.csv"
    path.write_text(PROTOCOL)
    return str(path)


def make(protocol: str, **options: Any) -> SegmentationDataModule:
    return SegmentationDataModule(
        **({"dataset": "fake", "protocol": protocol, "size": 16, "batch_size": 2} | options)
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"dataset": "fantom_polyp"},
            "no data set named 'fantom_polyp'; did you mean 'phantom_polyp'",
        ),
        (
            {"protocol": "phantom-poly"},
            "no protocol named 'phantom-poly'; did you mean 'phantom-polyp'",
        ),
        ({"augment": "uneta"}, "no augmentation preset named 'uneta'"),
        ({"augment": [{"name": "Flip"}]}, "no transform named 'Flip'"),
        (
            {"dataset_options": {"counts": 3}},
            "no option of phantom_polyp named 'counts'; did you mean 'count'",
        ),
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"size": -1}, "data.size is -1"),
        ({"size": 0}, "data.size is 0"),
        ({"copies": 0}, "data.copies is 0"),
        ({"num_workers": -1}, "data.num_workers is -1"),
        ({"seed": -1}, "data.seed is -1"),
    ],
)
def test_a_wrong_argument_is_refused_by_the_constructor(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        SegmentationDataModule(**options)


def test_the_constructor_describes_the_data_without_opening_them(
    opened: list[Any], protocol: str
) -> None:
    module = make(protocol)
    assert module.classes == ("left", "right")
    assert module.in_channels == 3
    assert module.protocol_name == "fake"
    assert module.protocol_digest == load_protocol(protocol).digest
    assert opened == []


def test_missing_data_are_an_error_of_prepare_data_not_of_the_constructor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    for root in (None, str(tmp_path / "gone")):
        module = SegmentationDataModule("kvasir_seg", root)
        with pytest.raises(InputError, match="kvasir_seg: "):
            module.prepare_data()
        with pytest.raises(InputError, match="kvasir_seg: "):
            module.setup("fit")


def test_a_data_set_that_lacks_ids_of_the_protocol_is_refused(
    opened: list[Any], protocol: str
) -> None:
    with pytest.raises(InputError, match="names 3 of 12 ids that the data set lacks"):
        make(protocol, dataset_options={"count": 9}).setup("fit")


def test_each_stage_opens_its_own_splits_only(opened: list[Any], protocol: str) -> None:
    ids = load_protocol(protocol).ids
    expected = {
        "fit": {*ids["train"], *ids["val"]},
        "validate": {*ids["val"]},
        "test": {*ids["test"]},
    }
    for stage, wanted in (expected | {"predict": expected["test"]}).items():
        module = make(protocol)
        module.setup(stage)
        assert opened[-1].opened == wanted, stage


def test_a_batch_holds_uint8_tensors_of_the_given_size(opened: list[Any], protocol: str) -> None:
    module = make(protocol)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (2, 3, 16, 16)
    assert batch["mask"].shape == (2, 2, 16, 16)
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    assert [module._split.ids["train"][index] for index in batch["index"]] == batch["id"]


def test_without_a_size_images_stay_as_they_are(opened: list[Any], protocol: str) -> None:
    module = make(protocol, size=None, augment="none")
    module.setup("fit")
    batch = next(iter(module.val_dataloader()))
    assert batch["image"].shape == (2, 3, 32, 32)
    expected = opened[-1].read(batch["id"][0]).image.transpose(2, 0, 1)
    assert torch.equal(batch["image"][0], torch.from_numpy(expected.copy()))


def test_validation_and_test_are_whole_unchanged_and_in_order(
    opened: list[Any], protocol: str
) -> None:
    module = make(protocol)
    module.setup("fit")
    module.setup("test")
    plain = make(protocol, augment="none")
    plain.setup("fit")
    for ours, theirs in zip(module.val_dataloader(), plain.val_dataloader(), strict=True):
        assert torch.equal(ours["image"], theirs["image"])
    for loader, split in ((module.val_dataloader(), "val"), (module.test_dataloader(), "test")):
        assert tuple(id for batch in loader for id in batch["id"]) == module._split.ids[split]


@pytest.mark.parametrize(("batch_size", "batches"), [(2, 3), (6, 1), (7, 1), (16, 1)])
def test_only_a_train_split_larger_than_a_batch_drops_its_tail(
    opened: list[Any], protocol: str, batch_size: int, batches: int
) -> None:
    module = make(protocol, batch_size=batch_size)
    module.setup("fit")
    found = [len(batch["id"]) for batch in module.train_dataloader()]
    assert len(found) == len(module.train_dataloader()) == batches
    assert sum(found) == min(7, batch_size * batches)


def test_offline_copies_multiply_the_training_images_only(opened: list[Any], protocol: str) -> None:
    module = make(protocol, copies=6, online=False)
    module.setup("fit")
    assert len(module._datasets["train"]) == 42
    assert len(module._datasets["val"]) == 2


def test_the_global_batch_is_shared_by_the_devices(opened: list[Any], protocol: str) -> None:
    module = make(protocol, batch_size=4)
    module.setup("fit")
    module.trainer = SimpleNamespace(world_size=2, global_rank=1)  # type: ignore[assignment]
    loader = module.train_dataloader()
    assert loader.batch_size == 2
    assert (loader.sampler.num_replicas, loader.sampler.rank) == (2, 1)  # type: ignore[attr-defined]
    assert isinstance(module.val_dataloader().sampler, UnrepeatedDistributedSampler)
    module.trainer.world_size = 3  # type: ignore[misc]
    with pytest.raises(InputError, match="batch_size 4 cannot be shared by 3 devices"):
        module.train_dataloader()
    with pytest.raises(InputError, match="2 val samples cannot be shared by 3 devices"):
        module.val_dataloader()


def test_the_hyper_parameters_are_primitives_that_rebuild_it(
    opened: list[Any], protocol: str
) -> None:
    module = make(protocol, root=Path("/somewhere"), augment=[{"name": "HorizontalFlip"}], copies=2)
    kept = dict(module.hparams)
    assert kept["root"] == "/somewhere"
    assert all(type(value) in (str, int, float, bool, list, type(None)) for value in kept.values())
    again = SegmentationDataModule(**pickle.loads(pickle.dumps(kept)))
    assert dict(again.hparams) == kept


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 0), (4, 3), (64, 8)])
def test_the_default_number_of_workers_follows_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    monkeypatch.setattr(implementation, "usable_cores", lambda: cores)
    assert implementation.default_workers() == workers


def test_a_file_of_transforms_goes_into_the_hyper_parameters(
    opened: list[Any], protocol: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- {name: HorizontalFlip, p: 1.0}")
    module = make(protocol, augment=str(file))
    assert module.hparams["augment"] == [{"name": "HorizontalFlip", "p": 1.0}]


def test_a_cache_is_named_from_the_root_of_the_file_system(
    opened: list[Any], protocol: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make(protocol, cache="here").hparams["cache"] == str(tmp_path / "here")
    assert make(protocol).hparams["cache"] is None


@pytest.fixture
def volumes(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The data set "volumes": each id of the protocol is three slices, of which training visits the middle one twice."""

    class Volumes:
        classes = ("left", "right")
        in_channels = 3
        default_protocol = "auto"
        regions = True

        def __init__(self, root: Path | None = None) -> None:
            self.ids = [f"s{index:02d}" for index in range(12)]
            self.groups = {id: id for id in self.ids}
            self.stored: list[list[str]] = []
            opened.append(self)

        def expand(self, id: str) -> tuple[str, ...]:
            return tuple(f"{id}-{number}" for number in range(3))

        def training_ids(self, ids: Sequence[str]) -> list[str]:
            return [id for id in ids if id.endswith("-1")] * 2

        def store(self, ids: list[str], size: tuple[int, int], cache: Path | None) -> list[Sample]:
            self.stored.append(ids)
            part = np.zeros((*size, 3), np.uint8)
            return [Sample(part, part[..., :2], part[..., 0] + np.uint8(2))] * len(ids)

    monkeypatch.setitem(DATASETS, "volumes", "lightning_seg.data.sources.phantom:Volumes")
    monkeypatch.setattr("lightning_seg.data.sources.phantom.Volumes", Volumes, raising=False)
    return opened


def test_the_samples_of_an_id_stay_in_its_split(volumes: list[Any], protocol: str) -> None:
    module = make(protocol, dataset="volumes")
    split = load_protocol(protocol)
    for name in ("train", "val", "test"):
        assert module.ids(name) == tuple(
            f"{id}-{number}" for id in split.ids[name] for number in range(3)
        )
    assert module.protocol_digest == split.digest
    module.setup("fit")
    seen = [id for batch in module.val_dataloader() for id in batch["id"]]
    assert tuple(seen) == module.ids("val")
    assert len(volumes) == 1


def test_a_source_chooses_the_samples_of_training(volumes: list[Any], protocol: str) -> None:
    module = make(protocol, dataset="volumes")
    module.setup("fit")
    train, val = volumes[0].stored
    assert train == [f"s{index:02d}-1" for index in range(7)]
    assert val == list(module.ids("val"))
    assert len(module._datasets["train"]) == 14


def test_regions_travel_in_the_batch_of_data_sets_that_have_them(
    volumes: list[Any], protocol: str, opened: list[Any]
) -> None:
    module = make(protocol, dataset="volumes", augment="none")
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["region"].shape == (2, 1, 16, 16)
    assert batch["region"].dtype == torch.uint8
    assert (batch["region"] == 2).all()
    assert module.regions
    assert not make(protocol).regions


class Record(LightningModule):
    """Trains one number and notes the ids and pixel sums of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, str, int]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        sums = batch["image"].long().sum((1, 2, 3)).tolist()
        self.seen += [(self.current_epoch, *pair) for pair in zip(batch["id"], sums, strict=True)]
        return self.weight**2

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None: ...

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None: ...

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
        return list(batch["id"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(tmp_path: Path, **options: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    return Trainer(default_root_dir=tmp_path, **(quiet | {"enable_checkpointing": False} | options))


@pytest.mark.filterwarnings("ignore")
def test_lightning_moves_the_epoch_on_and_a_resumed_run_sees_what_an_unbroken_one_sees(
    opened: list[Any], protocol: str, tmp_path: Path
) -> None:
    whole, first, second = Record(), Record(), Record()
    trainer(tmp_path, max_epochs=3).fit(whole, make(protocol))
    broken = trainer(tmp_path, max_epochs=1)
    broken.fit(first, make(protocol))
    broken.save_checkpoint(tmp_path / "one.ckpt")
    trainer(tmp_path, max_epochs=3).fit(second, make(protocol), ckpt_path=tmp_path / "one.ckpt")
    assert first.seen + second.seen == whole.seen
    epochs = [[entry[1:] for entry in whole.seen if entry[0] == epoch] for epoch in range(3)]
    assert all(len(epoch) == 6 for epoch in epochs)
    assert not set(epochs[0]) & set(epochs[1])


@pytest.mark.filterwarnings("ignore")
def test_predict_runs_over_the_test_split(opened: list[Any], protocol: str, tmp_path: Path) -> None:
    module = make(protocol)
    found = trainer(tmp_path).predict(Record(), module)
    assert found is not None
    assert tuple(id for batch in found for id in batch) == module._split.ids["test"]


@pytest.mark.parametrize(
    ("dataset", "channels", "classes"), [("phantom_polyp", 3, 1), ("phantom_ct", 1, 2)]
)
def test_the_phantoms_come_through(dataset: str, channels: int, classes: int) -> None:
    module = SegmentationDataModule(
        dataset, size=32, batch_size=4, dataset_options={"resolution": 64}, num_workers=0
    )
    module.setup("validate")
    batch = next(iter(module.val_dataloader()))
    assert batch["image"].shape == (4, channels, 32, 32)
    assert batch["mask"].shape == (4, classes, 32, 32)
    assert len(module.classes) == classes
    assert module.in_channels == channels
