"""What is found is not obeyed: code, places to write and bombs in files that others wrote."""

import sys

import pytest
import yaml

from lightning_seg import cli
from lightning_seg.errors import InputError
from lightning_seg.files.documents import parse_yaml, read_yaml
from lightning_seg.files.trust import (
    check_code,
    check_code_of_arguments,
    check_places,
    names_code,
)
from lightning_seg.runs import Run

EARLY = "lightning.pytorch.callbacks.EarlyStopping"


def with_callback(path, **arguments):
    return {"trainer": {"callbacks": [{"class_path": path, "init_args": arguments}]}}


@pytest.mark.parametrize(
    "content",
    [
        with_callback("stranger.Callback"),
        with_callback("os.system"),
        with_callback("lightning_seg.files.os.system"),  # what a module of ours imports
        with_callback("lightning_seg.nothing.Here"),
        with_callback(
            "lightning.pytorch.callbacks.LambdaCallback", on_fit_start="stranger.function"
        ),
        with_callback(EARLY, nested={"class_path": "stranger.Class"}),
        {"trainer": {"logger": "stranger.Logger"}},
        {"trainer": {"strategy": {"class_path": "stranger.Strategy"}}},
        {"trainer.callbacks": [{"class_path": "stranger.Callback"}]},
        {"trainer": {"callbacks": "[{class_path: stranger.Callback}]"}},
        {"trainer": "{callbacks: [{class_path: stranger.Callback}]}"},
        {"trainer": __file__},
        {"model": __file__},
        {"config": __file__},
        {"model": {"architecture": "stranger:Net"}},
        {"architecture": "stranger:Net"},
        {"models": [{"name": "a", "overrides": {"model.architecture": "stranger:Net"}}]},
        {"model.architecture": {"categorical": ["unet", "stranger:Net"]}},
    ],
)
def test_code_from_outside_needs_a_word(content):
    with pytest.raises(InputError, match=r"outside lightning_seg would run; give --trust_code"):
        check_code(content, "found.yaml", trust_code=False)
    check_code(content, "found.yaml", trust_code=True)


@pytest.mark.parametrize(
    "content",
    [
        with_callback(EARLY, monitor="val/dice", patience=3),
        with_callback("EarlyStopping", monitor="val/dice"),
        {"trainer": {"logger": True, "strategy": "ddp", "profiler": "simple", "callbacks": None}},
        {"trainer": {"default_root_dir": "my.runs", "precision": "bf16-mixed"}},
        {"model": {"architecture": "unet", "encoder": "convnext_tiny.fb_in1k"}},
        {"data": {"root": "/data/a.b", "augment": "unet_a"}},
    ],
)
def test_what_is_of_the_project_needs_none(content):
    check_code(content, "found.yaml", trust_code=False)


def test_a_found_command_line_does_not_trust_itself():
    assert not names_code([])
    assert not names_code(["--model.lr", "0.1", "--trainer.precision=16-mixed"])
    for args in (
        ["--model.architecture", "stranger:Net"],
        ["--trainer.callbacks=[{class_path: stranger.C}]"],
        ["--trust_code"],
    ):
        assert names_code(args)
    with pytest.raises(InputError, match="gives itself --trust_code"):
        check_code_of_arguments(["--trust_code"], "study 'a'", False)


def test_a_found_configuration_does_not_say_where_to_write(tmp_path):
    inside = with_callback("ModelCheckpoint", dirpath=str(tmp_path / "run" / "kept"))
    check_places(inside, "config.yaml", [tmp_path / "run"], False)
    for place in (str(tmp_path / "elsewhere"), "../../elsewhere"):
        for content in (
            with_callback("ModelCheckpoint", dirpath=place),
            {"trainer": {"default_root_dir": place}},
        ):
            with pytest.raises(InputError, match="outside of its run"):
                check_places(content, "config.yaml", [tmp_path / "run"], False)
            check_places(content, "config.yaml", [tmp_path / "run"], True)


FIT = ["--data.dataset", "phantom_polyp", "--model.architecture", "unet"]
FIT += ["--data.protocol", "auto", "--data.size", "16", "--data.batch_size", "4"]
FIT += ["--data.dataset_options", '{"count": 12, "resolution": 16}', "--data.augment", "[]"]
FIT += ["--model.options", "{widths: [2, 4]}", "--trainer.accelerator", "cpu"]


def test_a_stranger_s_run_is_resumed_without_its_code_and_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger_code.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    cli.run(["fit", *FIT, "--trainer.max_epochs", "1", "--runs", "theirs", "--name", "a"])
    run = Run.open("theirs/a")
    last, own = str(run.last.path), run.config
    again = ["fit", "--ckpt_path", last, "--trainer.max_epochs", "2"]

    def given(config):
        run.config_file.write_text(yaml.safe_dump(config))

    trainer = own["trainer"] | {"callbacks": [{"class_path": "stranger_code.Callback"}]}
    given(own | {"trainer": trainer})
    with pytest.raises(InputError, match="trust_code"):
        cli.run(again)
    assert "stranger_code" not in sys.modules
    given(own | {"trainer": own["trainer"] | {"default_root_dir": "/elsewhere"}})
    with pytest.raises(InputError, match="outside of its run"):
        cli.run(again)
    given({"data": "none"})
    with pytest.raises(InputError, match="holds no section"):
        cli.run(again)
    elsewhere = str(tmp_path / "elsewhere")
    data = own["data"] | {"cache": elsewhere}
    given(own | {"runs": elsewhere, "name": "../b", "data": data, "trust_code": True})
    cli.run(again)
    assert not (tmp_path / "elsewhere").exists()
    assert Run.open("theirs/a").last.epoch == 2


def test_a_recipe_of_others_runs_no_code(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump(with_callback("stranger_code.Callback") | {"trust_code": True})
    )
    with pytest.raises(InputError, match=r"recipe\.yaml.*'stranger_code.Callback'.*--trust_code"):
        cli.run(["fit", "-c", str(recipe), *FIT, "--runs", str(tmp_path)])


LAUGHS = "\n".join(
    ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "stands for more than 500,000 values"),
        ("a: &a [1, *a]", "within what it stands for"),
        ("[" * 2000, "more than 64 levels"),
        ("a: " * 100, "not YAML"),
        (f"a: {'9' * 5000}", "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("? [a]\n: b", "not YAML"),
        ("a: \x00", "not YAML"),
    ],
)
def test_a_bomb_in_yaml_is_a_sentence(text, words):
    with pytest.raises(InputError, match=words):
        parse_yaml(text, "found.yaml")


def test_anchors_of_ordinary_recipes_are_read(tmp_path):
    assert parse_yaml("a: &a {b: 1}\nc: [*a, *a]", "x")["c"] == [{"b": 1}, {"b": 1}]
    (tmp_path / "large.yaml").write_bytes(b"#" * 16_000_001)
    with pytest.raises(InputError, match="more than settings ever take"):
        read_yaml(tmp_path / "large.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed_everything", "9" * 20], "seed_everything is 9999"),
        (["--seed_everything", "-1"], "seed_everything is -1"),
        (["--trainer.max_epochs", "0"], "max_epochs is 0"),
        (["--trainer.max_epochs", "-7"], "max_epochs is -7"),
        (["--trainer.max_epochs", "9" * 400], "max_epochs has 400 digits"),
        (["--trainer.callbacks", "ModelCheckpoint"], "like the two of each run"),
        (["--data.num_workers", "1000000"], "num_workers is 1000000; give a whole number up to"),
        (["--data.dataset_options", "{count: 1000000000000}"], "too large for a phantom"),
        (["--data.dataset_options", "{resolution: 1000000}"], "too large for a phantom"),
        (["--data.augment", "[{name: Lambda, image: os.system}]"], "no transform named 'Lambda'"),
        (["--model.loss", "{dice: .nan}"], "the weight of loss 'dice' is nan"),
        (["--trainer.max_steps", "0"], "max_steps is 0"),
        (["--trainer.limit_train_batches", "0"], "limit_train_batches is 0"),
        (["--name", "n" * 300], "with 300 letters"),
        (["--name", "a\nb"], "can be printed"),
        (["--name", "../../x"], "inside the folder of all runs"),
        (["--checkpoint.filename", "../../x"], "without slashes"),
    ],
)
def test_numbers_and_names_that_no_run_can_have_are_sentences(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        cli.run(["fit", *FIT, "--runs", str(tmp_path / "runs"), *options])
    assert not (tmp_path / "runs").exists()
