"""Inference: seconds of one image and images per second of a batch, this project's way against plain torch over smp and MONAI."""

import copy
import statistics
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._peers import PAIRS
from benchmarks._section import Bars, Section, ratios, spread, table
from benchmarks._timing import find_device, has_bfloat16, in_turn
from lightning_seg.module import SegmentationModule

Row = dict[str, Any]
SIZE, REPETITIONS, BATCH_REPETITIONS = 256, 9, 3
BATCHES = {"cpu": (1, 8), "cuda": (1, 16, 64, 256)}


@dataclass(frozen=True)
class Contest:
    """``peer`` builds its network; None: ours, used plainly."""

    architecture: str
    encoder: str | None
    peer_name: str
    peer: Callable[[], nn.Module] | None = None

    @property
    def name(self) -> str:
        return f"{self.architecture} x {self.encoder.partition('.')[0]}" if self.encoder else self.architecture


def contests() -> list[Contest]:
    """The pairs of training, and two networks from scratch."""
    from monai.networks.nets import AttentionUnet

    from benchmarks._plain import build

    found = [
        Contest(
            pair.architecture, pair.encoder, f"smp.{pair.network}", partial(build, pair.network, f"tu-{pair.encoder}")
        )
        for pair in PAIRS[:3]
    ]
    scse = partial(_scse, f"tu-{PAIRS[3].encoder}")
    found.append(Contest(PAIRS[3].architecture, PAIRS[3].encoder, "smp.Unet with scse, for want of gates", scse))
    monai = partial(AttentionUnet, 2, 3, 1, (64, 128, 256, 512, 1024), (2, 2, 2, 2))
    found.append(Contest("attention_unet", None, "monai AttentionUnet", monai))
    return [*found, Contest("sa_unet_v2", None, "the same network, plain")]


def _scse(encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet(encoder, encoder_weights=None, decoder_attention_type="scse")


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: one tiny network, ``compiled`` changes nothing."""
    return section(list(measure(torch.device("cpu") if smoke else find_device(), smoke)))


def measure(device: torch.device, smoke: bool = False, quick: bool = False) -> Generator[Row]:
    """A row per network and batch; on a GPU all batches that fit."""
    size = 32 if smoke else SIZE
    for contest in [Contest("unet", "test_resnet.r160_in1k", "the same network, plain")] if smoke else contests():
        ways, sizes = _ways(contest, device)
        for batch in (1, 2) if smoke else BATCHES[device.type][:: 2 if quick else 1]:
            image = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
            repetitions = 2 if smoke else REPETITIONS if batch == 1 else BATCH_REPETITIONS
            try:
                seconds = in_turn({name: partial(way, image) for name, way in ways.items()}, repetitions, device, 1)
            except torch.OutOfMemoryError:
                break
            row = {"network": contest.name, "peer": contest.peer_name, "parameters": sizes, "size": size}
            yield row | {"batch": batch, "seconds": seconds}


@torch.no_grad()
def _plainly(net: nn.Module, dtype: torch.dtype | None, image: Tensor) -> Tensor:
    with torch.autocast(image.device.type, dtype) if dtype else ExitStack():
        output = net(image.contiguous() / 255)
    return (output if isinstance(output, Tensor) else output.logits).sigmoid()


@torch.inference_mode()
def _our_way(module: SegmentationModule, dtype: torch.dtype | None, image: Tensor) -> Tensor:
    with torch.autocast(image.device.type, dtype) if dtype else ExitStack():
        return module.probabilities({"image": image})


def _ways(contest: Contest, device: torch.device) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict[str, int]]:
    """From uint8 images to probabilities, and the parameters of both networks."""
    module = SegmentationModule(contest.architecture, contest.encoder, normalization="unit").to(device).eval()
    net = copy.deepcopy(module.net) if contest.peer is None else contest.peer()
    net = net.to(device, memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": partial(_plainly, net, None),
        "ours": partial(_our_way, module, None),
    }
    if has_bfloat16(device):
        found["plain, bf16"] = partial(_plainly, net, torch.bfloat16)
        found["ours, bf16"] = partial(_our_way, module, torch.bfloat16)
    return found, {"ours": _parameters(module.net), "peer": _parameters(net)}


def _parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def section(rows: list[Row]) -> Section:
    """Markdown, all numbers, and a chart."""
    heads = ["network", "peer", "parameters ours / peer", "batch", "plain, ms per image"]
    pairs = [(f"ours{p}", f"plain{p}", text) for p, text in (("", "float32"), (", bf16", "both bf16"))]
    found = [pair for pair in pairs if pair[0] in rows[0]["seconds"]]
    fast = ["ours bf16, times plain float32"] if len(found) > 1 else []
    lines = []
    for row in rows:
        seconds, batch = row["seconds"], row["batch"]
        cells = [row["network"], row["peer"], " / ".join(f"{n:,}" for n in row["parameters"].values()), batch]
        cells += [spread([1000 * s / batch for s in seconds["plain"]], 1)]
        cells += [spread(ratios(seconds[plain], seconds[ours]), 2) for ours, plain, _ in found]
        lines.append(cells + ([spread(ratios(seconds["plain"], seconds["ours, bf16"]), 2)] if fast else []))
    heads += [*(f"ours, times as fast, {text}" for *_, text in found), *fast]
    bars = {f"{r['network']}, batch {r['batch']}": ratios(r["seconds"]["plain"], r["seconds"]["ours"]) for r in rows}
    chart = Bars("Inference in float32, against plain torch", "times as fast", bars, 1.0)
    return Section(f"{_caption(rows)}\n\n{table(heads, lines)}\n\n{_best(rows)}", {"rows": rows}, {"speed": chart})


def _best(rows: Sequence[Row]) -> str:
    """Images per second at the batch that suits each way best."""
    lines = []
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        best = [
            max((row["batch"] / statistics.median(row["seconds"][way]), row["batch"]) for row in own)
            for way in rows[0]["seconds"]
        ]
        lines.append([name, *(f"{rate:.1f} (batch {batch})" for rate, batch in best)])
    return f"Images per second at the best batch:\n\n{table(('network', *rows[0]['seconds']), lines)}"


def _caption(rows: Sequence[Row]) -> str:
    return (
        f"Images of {rows[0]['size']} x {rows[0]['size']}, random weights, from uint8 pixels on the device to probabilities. Plain: "
        "evaluation mode, no gradients, NCHW; ours: inference mode, channels last. Median [quartiles] of "
        f"{len(rows[0]['seconds']['plain'])} (one image) or {len(rows[-1]['seconds']['plain'])} (batches) repetitions in turn; ratios "
        "are those within a repetition. Ratios against a peer with other parameters compare networks, too."
    )
