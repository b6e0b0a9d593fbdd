"""The real command line, end to end, on phantom."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_seg import cli
from lightning_seg.data import SegmentationDataModule, load_protocol
from lightning_seg.data.sources.phantom_polyp import PhantomPolyp
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, scores
from lightning_seg.inference.__main__ import main as predict
from lightning_seg.inference.pictures import GAP, TITLE
from lightning_seg.runs import find_checkpoint
from lightning_seg.training.module import SegmentationModule

ROOT = Path(__file__).parent.parent
TINY = """
trainer: {accelerator: cpu, enable_model_summary: false, enable_progress_bar: false, log_every_n_steps: 1}
data: {dataset: phantom_polyp, protocol: %s, size: 32, batch_size: 4, dataset_options: {resolution: 32}}
model: {architecture: unet, options: {widths: [4, 8, 16]}, lr: 0.01}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe that trains in seconds: 12 / 6 / 5 phantoms of 32 pixels."""
    folder = tmp_path_factory.mktemp("recipe")
    rows = [
        f"polyp-{i:04d},{'train' if i < 12 else 'val' if i < 18 else 'test'}" for i in range(23)
    ]
    (folder / "tiny.csv").write_text(
        "# name: tiny\n# version: 1\n# rule: the first 23\nid,split\n" + "\n".join(rows) + "\n"
    )
    (folder / "tiny.yaml").write_text(TINY % (folder / "tiny.csv"))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    """The run folder of a finished fit."""
    runs = tmp_path_factory.mktemp("runs")
    cli.run(["fit", "-c", str(recipe), "--runs", str(runs), "--trainer.max_epochs", "2"])
    return runs / "tiny" / "version_0"


def checkpoint(run, which="best"):
    return next(run.glob(f"checkpoints/{which}*.ckpt"))


def shell(*args, **kwargs):
    options = {"cwd": ROOT, "text": True, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, **kwargs}
    return [sys.executable, "-m", "lightning_seg", *map(str, args)], options


def call(*args, check=True, **kwargs):
    command, options = shell(*args, capture_output=True, **kwargs)
    done = subprocess.run(command, timeout=240, **options)
    assert not check or done.returncode == 0, done.stderr
    return done


def test_fit_leaves_checkpoints_with_their_score_the_config_and_the_dashboards(trained):
    best = checkpoint(trained)
    assert checkpoint(trained, "last")
    config = yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))
    assert config["model"]["lr"] == 0.01
    assert config["seed_everything"] == 42
    events = EventAccumulator(str(trained)).Reload()
    tags = events.Tags()
    assert {"train/loss", "val/dice", "val/iou_image", "val/recall", "lr-AdamW"} <= set(
        tags["scalars"]
    )
    assert "val/overlays" in tags["images"]
    assert any(tag.startswith("val/pr_polyp") for tag in tags["tensors"])
    best_logged = max(event.value for event in events.Scalars("val/dice"))
    assert best.stem.partition("dice=")[2] == f"{best_logged:.4f}"
    assert any("best/val/dice" in tag for tag in tags["scalars"])


def test_a_checkpoint_names_the_protocol_and_needs_no_code_to_load(trained):
    content = torch.load(checkpoint(trained), weights_only=True)
    protocol = load_protocol(content["datamodule_hyper_parameters"]["protocol"])
    assert content["lightning_seg"]["protocol"] == "tiny"
    assert content["lightning_seg"]["protocol_digest"] == protocol.digest
    assert content["hyper_parameters"]["classes"] == ("polyp",)
    assert content["datamodule_hyper_parameters"]["seed"] == 42


def test_the_checkpoint_alone_is_tested_and_its_scores_follow_from_the_table(trained, capsys):
    done = cli.run(
        ["test", "--ckpt_path", str(checkpoint(trained)), "--trainer.accelerator", "cpu"]
    )
    printed = capsys.readouterr().out
    for words in (
        "SYNTHETIC",
        "mean over images",
        "pooled over pixels",
        "protocol tiny",
        "5 images",
    ):
        assert words in printed
    folder = next((trained / "test-tiny").glob("best*"))
    facts = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    table = ScoreTable.read(folder / "scores.csv")
    assert table.ids == load_protocol(done.datamodule.hparams["protocol"]).ids["test"]
    expected = scores(table.of("polyp"))
    assert facts["scores"]["polyp"]["dice"]["pooled"]["value"] == pytest.approx(expected["dice"])
    assert facts["scores"]["polyp"]["dice"]["image"]["value"] == pytest.approx(
        expected["dice_image"]
    )
    assert facts["protocol_digest"] == done.datamodule.protocol_digest
    # an independent loop over the test images with the loaded network
    module = SegmentationModule.load(checkpoint(trained))
    data = SegmentationDataModule(
        **{k: v for k, v in done.datamodule.hparams.items() if not k.startswith("_")}
    )
    data.setup("test")
    for batch in data.test_dataloader():
        with torch.inference_mode():
            prediction = (module(batch["image"]).logits > 0).numpy()[:, 0]
        for name, p, t in zip(
            batch["id"], prediction, batch["mask"].numpy()[:, 0].astype(bool), strict=True
        ):
            row = table.of("polyp")[table.ids.index(name)]
            np.testing.assert_array_equal(
                row, [(p & t).sum(), (p & ~t).sum(), (~p & t).sum(), (~p & ~t).sum()]
            )


def test_scores_at_native_size_stand_beside_those_at_network_size_by_name(recipe, tmp_path, capsys):
    native = ["--data.dataset_options", "{resolution: 48}"]
    done = cli.run(
        ["fit", "-c", str(recipe), "--runs", str(tmp_path), "--trainer.max_epochs", "1", *native]
    )
    run = Path(done.trainer.logger.log_dir)
    options = ["test", "--ckpt_path", str(checkpoint(run)), "--trainer.accelerator", "cpu"]
    cli.run([*options, "--measures", "none"])
    assert "at network size (32)" in capsys.readouterr().out
    cli.run([*options, "--score_at", "native", "--measures", "[boundary]"])
    printed = capsys.readouterr().out
    assert "at native size of each mask" in " ".join(printed.split())
    assert "hd95" in printed
    tables = {
        folder.name: ScoreTable.read(folder / "scores.csv")
        for folder in (run / "test-tiny").iterdir()
    }
    stem = checkpoint(run).stem
    assert set(tables) == {f"{stem}-32", f"{stem}-32-native"}
    assert set(tables[f"{stem}-32"].counts.sum(-1).ravel()) == {32 * 32}
    assert set(tables[f"{stem}-32-native"].counts.sum(-1).ravel()) == {48 * 48}
    assert not tables[f"{stem}-32"].measures
    assert set(tables[f"{stem}-32-native"].measures) == {"hd95", "nsd"}
    facts = json.loads(
        (run / "test-tiny" / f"{stem}-32-native" / "summary.json").read_text(encoding="utf-8")
    )
    assert facts["scored_at"] == "native size of each mask"
    cli.run([*options, "--trainer.precision", "bf16-true", "--measures", "none"])
    assert "computed in bf16-true" in " ".join(capsys.readouterr().out.split())
    low = run / "test-tiny" / f"precision=bf16-true-{stem}-32" / "summary.json"
    assert json.loads(low.read_text(encoding="utf-8"))["inference"]["precision"] == "bf16-true"
    with pytest.raises(InputError, match="did you mean 'boundary'"):
        cli.run([*options, "--measures", "[boundry]"])
    with pytest.raises(InputError, match="score_at"):
        cli.run([*options, "--score_at", "somewhere"])


def test_a_validation_after_training_repeats_the_score_in_the_name_of_the_checkpoint(trained):
    best = checkpoint(trained)
    cli.run(["validate", "--ckpt_path", str(best), "--trainer.accelerator", "cpu"])
    facts = json.loads(
        (trained / "val-tiny" / f"{best.stem}-32" / "summary.json").read_text(encoding="utf-8")
    )
    assert (
        f"{facts['scores']['polyp']['dice']['pooled']['value']:.4f}"
        == best.stem.partition("dice=")[2]
    )
    assert {"hd95", "nsd", "s_measure", "weighted_f", "cldice", "brier", "ece"} <= set(
        facts["measures"]["polyp"]
    )
    assert {"image", "pooled", "batch4", "two_class"} <= set(facts["scores"]["polyp"]["dice"])
    assert [part["name"] for part in facts["strata"]["polyp"]][:3] == ["small", "medium", "large"]


def test_predict_writes_the_masks_and_a_contact_sheet(trained):
    predict(["--ckpt_path", str(checkpoint(trained)), "--devices", "cpu"])
    from PIL import Image

    folder = next((trained / "predictions").glob("best*"))
    names = {path.name for path in (folder / "masks").glob("polyp-*.png")}
    assert names == {f"polyp-{i:04d}.png" for i in range(18, 23)}
    mask = np.array(Image.open(folder / "masks" / "polyp-0018.png"))
    assert mask.shape == (32, 32)
    assert set(np.unique(mask)) <= {0, 255}
    sheet = np.array(Image.open(folder / "contact_sheet.png"))
    source = PhantomPolyp(resolution=32)
    height, width = 32 + TITLE + GAP, 32 + 2 * GAP
    for row in range(5):
        top = row * height + TITLE
        cells = [
            sheet[top : top + 32, place * width + GAP : (place + 1) * width - GAP]
            for place in range(3)
        ]
        image, truth = source.read(f"polyp-{18 + row:04d}")[:2]
        predicted = np.array(Image.open(folder / "masks" / f"polyp-{18 + row:04d}.png"))
        np.testing.assert_array_equal(cells[0], image)
        for cell, drawn in ((cells[1], truth[..., 0]), (cells[2], predicted)):
            changed = (cell != image).any(-1)
            np.testing.assert_array_equal(changed, drawn > 0)


def test_explicit_options_are_honoured_or_refused_never_dropped(trained):
    best = str(checkpoint(trained))
    done = cli.run(
        ["validate", "--ckpt_path", best, "--data.size", "48", "--model.loss", "{dice: 1}"]
    )
    assert done.datamodule.hparams["size"] == 48
    assert done.model.hparams["loss"] == {"dice": 1}
    with pytest.raises(InputError, match=r"contradicts 'resunet'"):
        cli.run(["test", "--ckpt_path", best, "--model.architecture", "resunet"])
    with pytest.raises(InputError, match=r"model.options"):
        cli.run(["test", "--ckpt_path", best, "--model.options", "{widths: [4, 8]}"])
    with pytest.raises(InputError, match="was trained for"):
        cli.run(
            [
                "test",
                "--ckpt_path",
                best,
                "--data.dataset",
                "phantom_ct",
                "--data.protocol",
                "phantom-ct",
            ]
        )


def test_last_and_best_name_files_of_the_run(trained, recipe):
    runs = str(trained.parent.parent)
    done = cli.run(["validate", "--ckpt_path", "best", "-c", str(recipe), "--runs", runs])
    assert done.given.checkpoint.resolve() == checkpoint(trained).resolve()
    for which in ("best", "last"):
        with pytest.raises(InputError, match=f"no '{which}' checkpoint"):
            cli.run(["test", "--ckpt_path", which, "--name", "never_trained", "--runs", runs])


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_the_same_seed_gives_the_same_run_and_another_seed_another(recipe, tmp_path):
    options = ["fit", "-c", str(recipe), "--runs", str(tmp_path), "--trainer.max_epochs", "2"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cli.run([*options, "--name", name, "--seed_everything", str(seed)])
    a, b, c = (weights(checkpoint(tmp_path / name / "version_0", "last")) for name in "abc")
    assert_same(a, b)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_a_run_that_was_killed_and_resumed_equals_one_that_was_not(recipe, tmp_path, monkeypatch):
    """Batch norm, optimiser and schedule have state; drop path and augmentation draw random numbers."""
    monkeypatch.chdir(tmp_path)
    options = ["-c", str(recipe), "--trainer.max_epochs", "6", "--model.encoder", "test_efficientnet", "--model.options", "{}",
               "--model.encoder_options", "{drop_path_rate: 0.3}", "--checkpoint.monitor", "val/loss"]  # fmt: skip
    # mode max of a falling loss: the best epoch is an early one, which the resumed run must remember
    cli.run(["fit", *options, "--name", "whole"])
    command, keywords = shell(
        "fit",
        *options,
        "--name",
        "killed",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    process = subprocess.Popen(command, **keywords)
    run = tmp_path / "runs" / "killed" / "version_0"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(run.glob("checkpoints/last-epoch=00[2-9]*.ckpt")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    epoch = torch.load(checkpoint(run, "last"), weights_only=True)["epoch"]
    assert epoch < 5, "the run was over before it could be killed"
    cli.run(["fit", *options, "--name", "killed", "--ckpt_path", "last"])
    assert not (run.parent / "version_1").exists()
    whole = tmp_path / "runs" / "whole" / "version_0"
    files = [[path.name for path in folder.glob("checkpoints/best*")] for folder in (whole, run)]
    assert files[0] == files[1]
    assert len(files[0]) == 1
    last = [find_checkpoint(folder.parent, "last") for folder in (whole, run)]
    assert last[0].name == last[1].name
    assert_same(weights(last[0]), weights(last[1]))
    for folder in (whole, run):
        found = find_checkpoint(folder.parent, "best").name
        assert found == checkpoint(whole).name


def test_a_run_resumed_with_more_epochs_follows_the_schedule_of_the_longer_run(recipe, tmp_path):
    options = ["fit", "-c", str(recipe), "--runs", str(tmp_path)]
    cli.run([*options, "--trainer.max_epochs", "2"])
    done = cli.run([*options, "--trainer.max_epochs", "6", "--ckpt_path", "last"])
    rates = [
        e.value
        for e in EventAccumulator(str(done.trainer.logger.log_dir)).Reload().Scalars("lr-AdamW")
    ]
    total, rise, lr = 18, round(18 * 0.05), 0.01
    expected = lr * 0.5 * (1 + np.cos(np.pi * (np.arange(7, total) - rise) / (total - rise)))
    np.testing.assert_allclose(rates[-len(expected) :], expected, rtol=1e-4)


def test_what_a_resumed_run_cannot_change_and_what_a_test_must_not_score_is_refused(
    trained, recipe, tmp_path
):
    with pytest.raises(InputError, match=r"model.lr = 0.01, which contradicts 0.5"):
        cli.run(
            [
                "fit",
                "-c",
                str(recipe),
                "--ckpt_path",
                str(checkpoint(trained, "last")),
                "--model.lr",
                "0.5",
            ]
        )
    with pytest.raises(InputError, match=r"model.normalization"):
        cli.run(["test", "--ckpt_path", str(checkpoint(trained)), "--model.normalization", "unit"])
    rows = (
        recipe.with_name("tiny.csv")
        .read_text(encoding="utf-8")
        .replace("train", "x")
        .replace("test", "train")
        .replace("x", "test")
    )
    (tmp_path / "swapped.csv").write_text(rows.replace("# name: tiny", "# name: swapped"))
    with pytest.raises(InputError, match=r"12 of the 12 test images .* were trained on"):
        cli.run(
            [
                "test",
                "--ckpt_path",
                str(checkpoint(trained)),
                "--data.protocol",
                str(tmp_path / "swapped.csv"),
            ]
        )
    (tmp_path / "edited.csv").write_text(rows)
    with pytest.raises(InputError, match="its digest was"):
        cli.run(
            [
                "test",
                "--ckpt_path",
                str(checkpoint(trained)),
                "--data.protocol",
                str(tmp_path / "edited.csv"),
            ]
        )


def test_every_look_at_a_test_split_is_counted(recipe, tmp_path, capsys):
    done = cli.run(["fit", "-c", str(recipe), "--runs", str(tmp_path), "--trainer.max_epochs", "1"])
    best = str(checkpoint(Path(done.trainer.logger.log_dir)))
    for look in (1, 2):
        cli.run(["test", "--ckpt_path", best])
        printed = capsys.readouterr().out
        assert f"this one included: {look} " in printed
        assert printed.rstrip().endswith(f"lightning-seg report {Path(best).parents[2]}")


def test_pretrained_weights_are_loaded_without_the_command_line_too(tmp_path, monkeypatch):
    import lightning as L
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("test_resnet", features_only=True).state_dict()
    save_file(
        {key: torch.full_like(value, 0.5) for key, value in state.items()},
        tmp_path / "test_resnet.safetensors",
    )
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path))
    module = SegmentationModule("unet", encoder="test_resnet", pretrained=True, classes=["polyp"])
    data = SegmentationDataModule(size=32, dataset_options={"resolution": 32})
    trainer = L.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
                        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path)  # fmt: skip
    trainer.fit(module, data)
    assert module.origin["file"] == "test_resnet.safetensors"


def test_two_processes_train_the_same_steps_and_score_every_image_once(recipe, trained, tmp_path):
    ddp = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    call(
        "fit", "-c", recipe, "--runs", tmp_path, "--name", "ddp", "--trainer.max_epochs", "1", *ddp
    )
    content = torch.load(checkpoint(tmp_path / "ddp" / "version_0", "last"), weights_only=True)
    assert content["global_step"] == 3  # 12 images, global batch 4
    folder = trained / "test-tiny" / f"{checkpoint(trained).stem}-32"
    cli.run(["test", "--ckpt_path", str(checkpoint(trained))])
    one = ScoreTable.read(folder / "scores.parquet")
    facts = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    (folder / "scores.parquet").unlink()
    # a batch script that starts the command without srun: Slurm's one task is not the world
    job = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    job |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NNODES": "1"}
    env = {**os.environ, "PYTHONPATH": str(ROOT), **job}
    call("test", "--ckpt_path", checkpoint(trained), *ddp, env=env)
    two = ScoreTable.read(folder / "scores.parquet")
    assert (one.ids, one.classes, one.groups) == (two.ids, two.classes, two.groups)
    assert len(one.ids) % 2
    np.testing.assert_array_equal(one.counts, two.counts)
    np.testing.assert_array_equal(one.components, two.components)
    np.testing.assert_allclose(one.calibration, two.calibration, rtol=1e-6)
    for name, values in one.measures.items():
        np.testing.assert_allclose(values, two.measures[name], rtol=1e-6, err_msg=name)
    again = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for key in ("maxima", "roc_auc"):
        assert again[key]["polyp"] == pytest.approx(facts[key]["polyp"], rel=1e-6)


BAD = [
    (["--model.architecture", "unett"], "did you mean 'unet'"),
    (["--model.encoder", "resnet35", "--model.options", "{}"], "'resnet34'"),
    (["--model.loss", "{dise: 1}"], "did you mean 'dice'"),
    (["--model.lrr", "0.1"], "did you mean 'model.lr'"),
    (["--modl.lr", "0.1"], "did you mean 'model.lr'"),
    (["--model.lr", "fast"], "model.lr"),
    (["--trainer.max_epochs", "few"], "trainer.max_epochs does not take 'few'"),
    (["--model.options", "{encoder: resnet34}"], "a place of its own"),
    (["--model.options", "{widht: [4, 8]}"], "did you mean 'widths'"),
    (["--model.options", "{widths: wide}"], "widths"),
    (["--model.schedule", "cosin"], "did you mean 'cosine'"),
    (["--model.optimizer", "adamv"], "did you mean 'adam"),
    (["--model.pretrained", "true"], "without a timm encoder"),
    (
        ["--model.encoder", "test_resnet", "--model.options", "{}", "--model.pretrained", "true"],
        "no pre-trained weights",
    ),
    (["--data.augment", "[{name: HorizontalFlipp}]"], "did you mean 'HorizontalFlip'"),
    (["--data.augment", "[{name: HorizontalFlip, prob: 1}]"], "no argument 'prob'"),
    (["--data.dataset", "kvasir"], "did you mean 'kvasir_seg'"),
    (["--data.protocol", "phantom-polip"], "did you mean 'phantom-polyp'"),
    (
        [
            "--data.dataset",
            "kvasir_seg",
            "--data.protocol",
            "kvasir-unet-a",
            "--data.root",
            "/nowhere",
            "--data.dataset_options",
            "{}",
        ],
        "does not exist",
    ),
    (["--checkpoint.monitor", "test/dice"], "sealed"),
    (
        ["--trainer.callbacks", "[{class_path: EarlyStopping, init_args: {monitor: test/dice}}]"],
        "sealed",
    ),
    (["--checkpoint.monitor", "val/dise"], "did you mean 'val/dice"),
    (["--trainer.max_epochs", "-1"], "must know the number of steps"),
    (["--ckpt_path", "last"], "no 'last' checkpoint"),
    (["--ckpt_pat", "last"], "did you mean 'ckpt_path'"),
    (["--trainer.max_epoch", "3"], "did you mean 'trainer.max_epochs'"),
    (["--trainer.strategy", "dpp"], "dpp"),
    (["--seed_everything", "true"], "give a whole number"),
    (["--model.schedule_options", "{min_lr: 0.1}"], "takes no schedule_options"),
    (
        ["--model.schedule", "plateau", "--model.schedule_options", "{factor: 2}"],
        "plateau does not take",
    ),
    (["--model.loss", "{dice: {smooth: big}}"], "'big'"),
    (["--model.architecture", "subprocess:Popen"], "no torch.nn.Module"),
    (["--model.architecture", ":Net"], "no architecture ':Net'"),
    (["--ckpt_path", __file__], "not a checkpoint"),
]


@pytest.mark.parametrize(
    ("options", "words"), BAD, ids=[" ".join(options)[:50] for options, _ in BAD]
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    recipe, tmp_path, capsys, options, words, monkeypatch
):
    monkeypatch.delenv("LIGHTNING_SEG_WEIGHTS", raising=False)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["fit", "-c", str(recipe), "--runs", str(tmp_path), *options])
    error = capsys.readouterr().err.strip()
    assert exit_.value.code == 2
    assert words in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1


def test_a_full_disk_leaves_the_previous_checkpoint_intact(recipe, tmp_path, monkeypatch, capsys):
    real, calls = torch.save, []

    def full(content, file):
        calls.append(file.name)
        if len(calls) <= 2:  # the best and the last of the first epoch fit
            return real(content, file)
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["fit", "-c", str(recipe), "--runs", str(tmp_path), "--trainer.max_epochs", "4"])
    assert exit_.value.code == 2
    assert "No space left on device" in capsys.readouterr().err
    files = sorted((tmp_path / "tiny" / "version_0" / "checkpoints").iterdir())
    assert [file.suffix for file in files] == [".ckpt", ".ckpt"]
    for file in files:
        SegmentationModule.load(file)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Too many open files. Communication with the workers", "allow more by `ulimit -n 4096`"),
        ("DataLoader worker (pid 17) is killed by signal: Bus error.", "(pid 17) is killed"),
        ("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't", "not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(recipe, tmp_path, monkeypatch, capsys, said, told):
    def lost(*_):
        raise RuntimeError(said)

    monkeypatch.setattr(SegmentationModule, "training_step", lost)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["fit", "-c", str(recipe), "--runs", str(tmp_path)])
    assert exit_.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_nothing_is_printed_into_a_file_where_streams_are_closed(closed, tmp_path):
    code = (
        "import os, sys; from lightning_seg.errors import open_streams; open_streams()\n"
        "file = open('kept', 'w'); print('out'); print('err', file=sys.stderr); sys.stdout.isatty()\n"
        "os.write(1, b'low'); file.close(); open('done', 'w').close()\n"
    )
    command = f'"{sys.executable}" -c "$CODE" {closed}'
    env = os.environ | {"CODE": code, "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-c", command], env=env, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "done").exists()
    assert (tmp_path / "kept").read_text() == ""


def test_help_answers_without_torch_and_knows_every_command():
    code = "import sys, lightning_seg.__main__ as m; m.main(['--help']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for word in ("fit", "validate", "test", "predict", "models"):
        assert f"  {word}" in done.stdout
    wrong = call("fitt", check=False)
    assert wrong.returncode == 2
    assert "did you mean 'fit'" in wrong.stderr


def test_a_loss_that_is_not_a_number_ends_the_run_with_a_sentence(recipe, tmp_path):
    options = ["--model.optimizer", "sgd", "--model.lr", "1e30", "--model.warmup", "0"]
    with pytest.raises(InputError, match=r"the training loss is (nan|inf)"):
        cli.run(
            [
                "fit",
                "-c",
                str(recipe),
                "--runs",
                str(tmp_path),
                "--trainer.max_epochs",
                "2",
                *options,
            ]
        )


def test_a_network_that_gives_no_finite_numbers_has_no_scores(trained, tmp_path):
    content = torch.load(checkpoint(trained), weights_only=True)
    next(iter(content["state_dict"].values()))[:] = torch.nan  # the mean of the images
    torch.save(content, tmp_path / "broken.ckpt")
    for command in ("validate", "test"):
        with pytest.raises(InputError, match="loss is nan"):
            cli.run(
                [command, "--ckpt_path", str(tmp_path / "broken.ckpt"), "--runs", str(tmp_path)]
            )
    assert not list(tmp_path.rglob("scores.csv"))


def test_a_batch_too_small_for_batch_norm_is_one_sentence(recipe, tmp_path):
    options = ["--data.batch_size", "1", "--data.size", "4", "--trainer.max_epochs", "1"]
    with pytest.raises(InputError, match=r"raise data\.batch_size or data\.size"):
        cli.run(["fit", "-c", str(recipe), "--runs", str(tmp_path), *options])
