"""The import table: which libraries a command may import before it does its work, and that help without them is the help."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from lightning_seg import __main__ as front
from lightning_seg.cli.light_imports import COMPUTING

# what no run needs that draws, analyses and exports nothing
NEVER_BEFORE_A_STEP = (
    "matplotlib",
    "monai",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "skimage",
    "sklearn",
    "sympy",
    "timm",
    "torch._dynamo",
    "torchvision",
    "transformers",
)
COMMANDS = [
    *([verb, "--help"] for verb in front.COMMAND_HOMES if verb not in ("data", "export", "hpo")),
    *(["data", verb, "--help"] for verb in ("check", "show", "prepare", "download")),
    *(["export", kind, "--help"] for kind in ("hf", "onnx", "program")),
    *(["hpo", verb, "--help"] for verb in ("run", "best", "export", "repeat", "plot")),
    ["models"],
]
HELPS = """
import contextlib, io, json, sys
from lightning_seg.__main__ import main

found = []
for args in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(args)
    found.append([out.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})])
print(json.dumps(found))
"""
STEP = """
import json, sys
from lightning_seg.cli.light_imports import lean_lightning

lean_lightning()
import lightning

class Stop(lightning.Callback):
    def on_train_batch_end(self, *_):
        print("modules", json.dumps([name for name, module in sys.modules.items() if module]))
        raise SystemExit(0)

from lightning_seg.cli import run

print("modules", json.dumps([name for name, module in sys.modules.items() if module]))
run(sys.argv[1:], [Stop()])
"""


def python(code, *args):
    env = os.environ | {"COLUMNS": "100"}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env)


def test_help_imports_no_library_that_computes_and_is_the_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    done = python(HELPS, json.dumps(COMMANDS))
    assert done.returncode == 0, done.stderr
    for args, (text, modules) in zip(COMMANDS, json.loads(done.stdout), strict=True):
        assert not set(modules) & set(COMPUTING), args
        if args[1:]:
            with pytest.raises(SystemExit) as ended:
                front.main(args)
            assert ended.value.code in (0, None)
        else:
            front.main(args)
        assert text == capsys.readouterr().out, args
        assert len(text) > 100, args


def test_a_first_step_imports_only_what_it_uses(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(12):
        image = rng.integers(0, 255, (32, 32, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), image)
        cv2.imwrite(str(tmp_path / "masks" / f"{i}.png"), 255 * (image[..., 0] > 128).astype("u1"))
    run = ["fit", "--data.dataset", "folder", "--data.root", str(tmp_path), "--data.size", "32"]
    run += ["--data.protocol", "auto", "--model.architecture", "unet", "--data.batch_size", "2"]
    run += ["--model.options", "{widths: [4, 8]}", "--runs", str(tmp_path / "runs")]
    run += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    done = python(STEP, *run)
    tables = [
        json.loads(line.removeprefix("modules"))
        for line in done.stdout.splitlines()
        if line.startswith("modules")
    ]
    assert len(tables) == 2, done.stderr
    imported, stepped = tables
    assert not {"scipy", "tensorboard", "albumentations"} & set(imported)
    assert set(NEVER_BEFORE_A_STEP) & set(stepped) == set()


def test_the_compiler_comes_whole_when_something_is_compiled():
    code = """
import sys, torch
from lightning_seg.cli.light_imports import lean_lightning

lean_lightning()
from lightning.fabric.wrappers import OptimizedModule
from lightning_seg.training.precision import compile_network

torch.use_deterministic_algorithms(True)
net = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(net.parameters())
net(torch.ones(1, 2)).sum().backward()
before = net.weight.clone()
optimizer.step()
optimizer.zero_grad()
assert not torch.equal(before, net.weight) and torch.is_grad_enabled()
assert "torch._dynamo" not in sys.modules and not isinstance(net, OptimizedModule)
compile_network(net, False)
import torch._inductor.config
assert torch._inductor.config.deterministic
compiled = torch.compile(net, backend="eager")
assert compiled(torch.ones(1, 2)).shape == (1, 2) and isinstance(compiled, OptimizedModule)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
