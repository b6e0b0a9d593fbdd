"""What would stop a training is found before it is queued."""

import pytest

from experiments.__main__ import main
from experiments.check import check_shares
from experiments.runs import training_settings
from lightning_seg.errors import InputError

IMAGES = {"train": 100, "val": 12, "test": 20}


def test_a_recipe_that_works_is_told_in_a_line(capsys):
    small = ["--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    main(["check", "-c", "experiments/quickstart.yaml", *small])
    assert capsys.readouterr().out.startswith("ok: unet, batches of 8 on 2 devices, images: ")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--trainer.devices", "3"], "cannot be shared by 3 devices"),
        (["--trainer.devices", "8", "--trainer.num_nodes", "2"], "cannot be shared by 16 devices"),
        (["--model.lrr", "1"], "did you mean 'model.lr'"),
        (["--data.root", "/nowhere", "--data.dataset", "folder"], "nowhere"),
        (
            ["--model.options", "{}", "--model.encoder", "resnet10t", "--model.pretrained", "true"],
            "no pre-trained weights for encoder 'resnet10t",
        ),
    ],
)
def test_what_would_stop_it_is_a_sentence(args, sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTNING_SEG_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=sentence):
        main(["check", "-c", "experiments/quickstart.yaml", "--trainer.accelerator", "cpu", *args])


def test_images_that_are_scored_must_suffice_for_the_devices():
    check_shares(16, IMAGES, 8)
    with pytest.raises(InputError, match="12 val images cannot be shared by 16 devices"):
        check_shares(16, IMAGES, 16)
    with pytest.raises(InputError, match="a multiple of 16, or 8 devices"):
        check_shares(8, IMAGES, 16)


def test_one_image_for_each_device_is_a_warning(capsys):
    args = ["check", "-c", "experiments/quickstart.yaml", "--trainer.devices", "8"]
    main([*args, "--trainer.accelerator", "cpu"])
    assert "sync_batchnorm" in capsys.readouterr().err


def test_the_defaults_that_a_run_has_kept_are_no_settings_of_its_own() -> None:
    given = {"model": {"architecture": "unet"}, "data": {"dataset": "kvasir_seg"}}
    defaults = {
        "model": {"optimizer": "adamw", "schedule": "cosine", "warmup": 0.05, "no_decay": False},
        "data": {"augment": "unet_a", "copies": 1, "allow_absent_classes": False},
        "trainer": {"accumulate_grad_batches": 1, "gradient_clip_val": None},
    }
    kept = {part: defaults[part] | given.get(part, {}) for part in defaults}
    assert training_settings(kept) == training_settings(given)
    other = kept | {"model": kept["model"] | {"warmup": 0.1}}
    assert training_settings(other)["model.warmup"] == 0.1
