"""Which promise of repetition a command makes where nobody says."""

import pytest
import torch

from lightning_seg import cli
from lightning_seg.training import determinism
from lightning_seg.training.determinism import automatic_determinism


@pytest.mark.parametrize(
    ("command", "accelerator", "gpu", "fixed_size", "expected"),
    [
        ("fit", "auto", False, True, ("warn", None)),
        ("fit", "cpu", True, True, ("warn", None)),
        ("fit", "auto", True, True, (False, True)),
        ("fit", "gpu", True, False, (False, False)),
        ("test", "auto", True, True, ("warn", None)),
        ("validate", "cuda", True, True, ("warn", None)),
    ],
)
def test_only_fit_on_a_gpu_gives_it_up(
    monkeypatch, command, accelerator, gpu, fixed_size, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert automatic_determinism(command, accelerator, fixed_size) == expected


def parsed(monkeypatch, *args):
    """The trainer's options of `fit` as they are recorded, on a machine with a GPU; nothing runs."""
    seen = {}

    def stop(self):
        seen.update(vars(self.config["fit"].trainer))
        raise KeyboardInterrupt

    monkeypatch.setattr(determinism.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cli.CLI, "choose_precision", lambda self, trainer: None)
    monkeypatch.setattr(cli.CLI, "instantiate_classes", stop)
    named = ["--data.dataset", "phantom_polyp", "--model.architecture", "unet"]
    with pytest.raises(KeyboardInterrupt):
        cli.run(["fit", *named, *args])
    return seen["deterministic"], seen["benchmark"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), (False, True)),
        (("--data.size", "null"), (False, False)),
        (("--trainer.benchmark", "false"), (False, False)),
        (("--trainer.deterministic", "warn"), ("warn", None)),
        (("--trainer.deterministic", "true"), (True, None)),
    ],
)
def test_what_was_chosen_is_recorded_and_what_was_named_stays(monkeypatch, args, expected):
    assert parsed(monkeypatch, *args) == expected
