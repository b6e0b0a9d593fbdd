"""Checkpoints that are not what they claim: each is refused in one sentence, before anything of it is obeyed."""

import zipfile

import pytest
import torch

from lightning_seg import cli
from lightning_seg.__main__ import main
from lightning_seg.errors import InputError
from lightning_seg.runs.checkpoints import SavedModel
from lightning_seg.runs.trained_network import read_network
from tests.inference.conftest import write_checkpoint


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("good") / "good.ckpt")


def deep(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def put(part, name, value):
    """A mutation: ``value`` in place of what stands under ``name`` in a part; itself one where there is no name."""

    def change(content):
        (content if part is None else content[part])[name] = value

    return change


def gone(part, name):
    return lambda content: (content if part is None else content[part]).pop(name)


def weight(change):
    """A mutation of the first weight."""

    def mutate(content):
        name = next(iter(content["state_dict"]))
        content["state_dict"][name] = change(content["state_dict"][name])

    return mutate


def promised(classes=("polyp",), **changes):
    """A mutation: a guarantee with changes in its outer bound."""
    number = len(classes)
    bound = {"rate": 0.1, "thresholds": [0.4] * number, "units": [9] * number}
    outer = bound | {"risks": [0.1] * number} | changes
    places = {"protocol": "auto", "protocol_digest": "", "images": 9, "grouped": False}
    whole = {"outer": outer, "inner": None, "classes": list(classes), **places}
    return put(None, "lightning_seg", {"guarantee": whole})


NET, DATA = "hyper_parameters", "datamodule_hyper_parameters"
MUTATIONS = {
    "no weights": gone(None, "state_dict"),
    "weights are a list": put(None, "state_dict", [1, 2]),
    "weights are empty": put(None, "state_dict", {}),
    "a weight is a number": weight(lambda _: 3.0),
    "a weight without a name": put("state_dict", 7, torch.zeros(1)),
    "a weight of another shape": weight(lambda value: value[:1]),
    "a weight that is sparse": weight(lambda value: value.to_sparse()),
    "a weight that is complex": weight(lambda value: value.to(torch.complex64)),
    "a weight that claims 10^12 numbers": weight(lambda _: torch.zeros(1).expand(10**6, 10**6)),
    "a weight too many": put("state_dict", "net.more", torch.zeros(1)),
    "a weight too few": lambda content: content["state_dict"].pop(
        next(iter(content["state_dict"]))
    ),
    "no settings": gone(None, NET),
    "settings are a text": put(None, NET, "unet"),
    "no architecture": gone(NET, "architecture"),
    "architecture is a number": put(NET, "architecture", 5),
    "architecture is unknown": put(NET, "architecture", "uunet"),
    "architecture of 1,000 letters": put(NET, "architecture", "u" * 1000),
    "architecture is a path": put(NET, "architecture", "../../unet"),
    "architecture is foreign code": put(NET, "architecture", "os:system"),
    "encoder is a list": put(NET, "encoder", ["resnet18"]),
    "encoder from a hub": put(NET, "encoder", "hf-hub:stranger/net"),
    "encoder from a folder": put(NET, "encoder", "local-dir:/tmp/stranger"),
    "options are a list": put(NET, "options", [1]),
    "options are unknown": put(NET, "options", {"depth": 3}),
    "options of another type": put(NET, "options", {"widths": "wide"}),
    "options of a giant": put(NET, "options", {"widths": [4, 8 * 10**6]}),
    "options below 0": put(NET, "options", {"widths": [-4, 8]}),
    "options with nothing": put(NET, "options", {"widths": []}),
    "options of 40 levels": put(NET, "options", deep(40)),
    "options with an object": put(NET, "options", {"widths": torch.zeros(2)}),
    "no size": gone(DATA, "size"),
    "classes are a number": put(NET, "classes", 1),
    "classes are empty": put(NET, "classes", []),
    "classes twice": put(NET, "classes", ["a", "a"]),
    "classes without a name": put(NET, "classes", [""]),
    "a class of 300 letters": put(NET, "classes", ["a" * 300]),
    "classes of other number": put(NET, "classes", ["a", "b", "c"]),
    "a class with a line break": put(NET, "classes", ["a\nb"]),
    "channels are none": put(NET, "in_channels", 0),
    "channels are a text": put(NET, "in_channels", "3"),
    "channels are very many": put(NET, "in_channels", 10**20),
    "normalization is unknown": put(NET, "normalization", "none"),
    "normalization is a list": put(NET, "normalization", []),
    "data are a list": put(None, DATA, []),
    "data without a set": gone(DATA, "dataset"),
    "data set is unknown": put(DATA, "dataset", "kvasir_sag"),
    "size is a text": put(DATA, "size", "large"),
    "size is below 0": put(DATA, "size", -32),
    "size of 10^9": put(DATA, "size", 10**9),
    "seed of 20 digits": put(DATA, "seed", 10**20),
    "training facts are a text": put(None, "lightning_seg", "none"),
    "training facts are none": put(None, "lightning_seg", None),
    "data are none": put(None, DATA, None),
    "a guarantee of other classes": promised(("a", "b")),
    "a guarantee above 1": promised(rate=5),
    "a guarantee by a threshold above 1": promised(thresholds=[7]),
    "a guarantee of no image": promised(units=[0]),
    "a guarantee of half an image": promised(units=[2.5]),
    "trained on numbers": put(None, "lightning_seg", {"trained_on": 5}),
    "epoch is a text": put(None, "epoch", "last"),
    "step is below 0": put(None, "global_step", -1),
    "lineage is empty": put(None, "run", {"lineage": []}),
    "lineage of one part": put(None, "run", {"lineage": [["a"]]}),
}


def refused(capsys, *args):
    """The one sentence with which a command ends."""
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    assert caught.value.code == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: ")
    assert len(sentence) < 1200
    return sentence


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_malformed_checkpoint_is_one_sentence(good, tmp_path, capsys, name):
    content = torch.load(good, weights_only=True)
    MUTATIONS[name](content)
    file = tmp_path / "bad.ckpt"
    torch.save(content, file)
    sentence = refused(
        capsys, "predict", "--ckpt_path", file, "--input", good, "--output", tmp_path / "out"
    )
    assert "no input" not in sentence  # that is what the good one comes to: it is no picture
    assert not (tmp_path / "out").exists()


def test_the_good_one_gets_past_its_check(good, tmp_path, capsys):
    args = ("predict", "--ckpt_path", good, "--input", good, "--output", tmp_path / "out")
    assert "checkpoint of lightning_seg" not in refused(capsys, *args)


def test_a_checkpoint_of_a_newer_version_is_read_as_far_as_it_is_known(good, tmp_path, capsys):
    content = torch.load(good, weights_only=True)
    content |= {"newer_part": {"a": 1}, "lightning_seg": {"newer_fact": [1, 2]}}
    content[NET]["newer_setting"] = True
    torch.save(content, tmp_path / "newer.ckpt")
    ours, theirs = read_network(tmp_path / "newer.ckpt"), read_network(good)
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
    sentence = refused(capsys, "test", "--ckpt_path", tmp_path / "newer.ckpt")
    assert "newer_setting" in sentence


@pytest.mark.parametrize(
    "option",
    ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"],
)
def test_a_checkpoint_does_not_say_where_timm_takes_weights_from(good, tmp_path, capsys, option):
    content = torch.load(good, weights_only=True)
    content[NET] |= {"encoder": "resnet18", "options": None}
    content[NET]["encoder_options"] = {option: str(tmp_path / "stranger.pth")}
    torch.save(content, tmp_path / "bad.ckpt")
    sentence = refused(capsys, "test", "--ckpt_path", tmp_path / "bad.ckpt")
    assert f"encoder_options holds {option!r}" in sentence


def test_a_file_that_unfolds_into_more_than_it_holds_is_not_opened(good, tmp_path, capsys):
    packed = tmp_path / "packed.ckpt"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    assert "claim more bytes" in refused(capsys, "cka", packed)
    for number, content in enumerate((b"", b"PK\x03\x04" + bytes(99), good.read_bytes()[:-700])):
        file = tmp_path / f"{number}.ckpt"
        file.write_bytes(content)
        assert "no archive" in refused(capsys, "cka", file)


def test_a_folder_of_malformed_checkpoints_has_none(good, tmp_path):
    content = torch.load(good, weights_only=True)
    content["callbacks"] = {"a": {"monitor": "val/dice", "best_model_path": 3}}
    torch.save(content, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match="does not say where in its run"):
        SavedModel.read(tmp_path / "bad.ckpt")


FIT = ["--data.protocol", "auto", "--data.size", "16", "--data.batch_size", "4"]
FIT += ["--data.dataset", "phantom_polyp"]
FIT += ["--data.dataset_options", '{"count": 12, "resolution": 16}', "--data.augment", "[]"]
FIT += ["--model.options", "{widths: [2, 4]}", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoint of a training of one epoch, outside of its run."""
    folder = tmp_path_factory.mktemp("trained")
    run = ["fit", *FIT, "--trainer.max_epochs", "1", "--runs", str(folder), "--name", "a"]
    cli.run(run)
    file = folder / "last.ckpt"
    next(folder.rglob("last*.ckpt")).rename(file)
    return file


STATES = {
    "optimizers are none": put(None, "optimizer_states", []),
    "optimizers are numbers": put(None, "optimizer_states", [3]),
    "an optimizer without groups": put(None, "optimizer_states", [{"state": {}}]),
    "an optimizer of another network": put(
        None, "optimizer_states", [{"state": {}, "param_groups": [{"params": [0]}]}]
    ),
    "schedules without a state": put(None, "lr_schedulers", [{}]),
    "loops are a text": put(None, "loops", "fit"),
    "loops without progress": put(None, "loops", {"fit_loop": {}}),
    "callbacks are a list": put(None, "callbacks", []),
    "Lightning's version is a number": put(None, "pytorch-lightning_version", 2),
    "Lightning's version is none": put(None, "pytorch-lightning_version", "new"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_training_does_not_go_on_from_a_malformed_state(trained, tmp_path, capsys, name):
    content = torch.load(trained, weights_only=True)
    STATES[name](content)
    torch.save(content, tmp_path / "bad.ckpt")
    where = ["--runs", tmp_path / "runs", "--name", "b"]
    more = ["--ckpt_path", tmp_path / "bad.ckpt", "--trainer.max_epochs", "2", *where]
    refused(capsys, "fit", *more, "--trainer.accelerator", "cpu")
