"""The first phases of a GPU session: the machine itself, synchronized norms, the price of determinism."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._gpu_networks import Training, determinism
from benchmarks._record import Record
from benchmarks._timing import synchronize
from lightning_seg import models
from lightning_seg.models.frame.synced_norms import (
    batch_norms,
    restore_norms,
    synchronize_norms,
)

if TYPE_CHECKING:
    from benchmarks.gpu_session import Session

FUSED_ENCODERS = ("mobilenetv2_100", "efficientnet_b0")  # norm and activation are one module
SMOKE_FUSED = ("mobilenetv2_035",)
DETERMINISM_SECONDS = 0.5  # of steps per network and setting


def doctor(session: "Session", record: Record, deadline: float) -> bool:
    """The page of `lightning-seg doctor`, a row for each line."""
    from dataclasses import asdict

    from lightning_seg.analysis.doctor import examine_machine

    record.update(failed=[])
    for finding in examine_machine(
        Path(session.runs), min(60.0, max(5.0, deadline - time.monotonic()))
    ):
        record.add(**asdict(finding))
        if finding.verdict == "fail":
            record.update(failed=[*record.content["failed"], finding.name])
    return True


def synced_norms(session: "Session", record: Record, deadline: float) -> bool:
    """Logits in evaluation with synchronized norms, and after these were taken back.

    ``difference`` is the largest of a logit, ``spread`` the standard deviation of the logits.
    """
    size = 64 if session.smoke else 224
    for encoder in SMOKE_FUSED if session.smoke else FUSED_ENCODERS:
        if time.monotonic() > deadline:
            return False
        torch.manual_seed(0)
        net = models.find("unet")(encoder=encoder).to(session.device)
        image = torch.rand(4, 3, size, size, device=session.device)
        _logits(net, image, True)  # statistics of their own, so that each norm matters
        plain, before = batch_norms(net), _logits(net, image, False)
        synchronize_norms(net)
        synced = _logits(net, image, False)
        restore_norms(net, plain)
        restored = _logits(net, image, False)
        record.add(encoder=encoder, norms="synchronized", **_gap(before, synced))
        record.add(encoder=encoder, norms="restored", **_gap(before, restored))
    return True


def _logits(net: nn.Module, image: Tensor, training: bool) -> Tensor:
    net.train(training)
    with torch.no_grad():
        output = net(image)
    return output.logits if isinstance(output, models.Output) else output


def _gap(one: Tensor, other: Tensor) -> dict[str, Any]:
    gap, spread = float((one - other).abs().max()), float(one.std())
    return {"difference": gap, "spread": spread, "equal": gap <= 1e-4 * max(1.0, spread)}


def price_of_determinism(session: "Session", record: Record, deadline: float) -> bool:
    """Milliseconds of a step, deterministic and not: bilinear upsampling alone, then UNet 3+."""
    for setting, wanted in {"free": False, "deterministic": True}.items():
        with determinism(wanted):
            record.add(what="bilinear upsampling", setting=setting, ms=_upsampling(session))
    size, batch = (32, 2) if session.smoke else (256, 16)
    small = models.find("unet3plus").tiny if session.smoke else {}  # type: ignore[attr-defined]
    for setting, wanted in {"free": False, "deterministic": True}.items():
        if time.monotonic() > deadline:
            return False
        torch.manual_seed(0)
        net = models.find("unet3plus")(**small)
        training = Training(net, batch, size, session.device, torch.float16)
        with determinism(wanted):
            record.add(what="unet3plus", setting=setting, ms=_timed(session, training.step))
    return True


def _upsampling(session: "Session") -> float:
    side = 32 if session.smoke else 128
    image = torch.rand(8, 64, side, side, device=session.device, requires_grad=True)

    def step() -> None:
        image.grad = None
        F.interpolate(image, scale_factor=2, mode="bilinear").sum().backward()

    return _timed(session, step)


def _timed(session: "Session", step: Any) -> float:
    for _ in range(3):
        step()
    synchronize(session.device)
    start, steps = time.perf_counter(), 0
    while steps == 0 or (not session.smoke and time.perf_counter() - start < DETERMINISM_SECONDS):
        step()
        steps += 1
        synchronize(session.device)
    return round(1e3 * (time.perf_counter() - start) / steps, 3)
