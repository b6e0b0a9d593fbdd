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
from benchmarks._timing import has_bfloat16, in_turn
from lightning_seg.runs.gpus import default_device
from lightning_seg.training.module import SegmentationModule

Row = dict[str, Any]
SIZE, REPETITIONS, BATCH_REPETITIONS = 256, 9, 5
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
        return (
            f"{self.architecture} x {self.encoder.partition('.')[0]}"
            if self.encoder
            else self.architecture
        )


def contests() -> list[Contest]:
    """The pairs of training, and two networks from scratch."""
    from monai.networks.nets import AttentionUnet

    from benchmarks._plain import build

    found = [
        Contest(
            pair.architecture,
            pair.encoder,
            f"smp.{pair.network}",
            partial(build, pair.network, f"tu-{pair.encoder}"),
        )
        for pair in PAIRS[:3]
    ]
    scse = partial(_scse, f"tu-{PAIRS[3].encoder}")
    found.append(
        Contest(
            PAIRS[3].architecture, PAIRS[3].encoder, "smp.Unet with scse, for want of gates", scse
        )
    )
    monai = partial(AttentionUnet, 2, 3, 1, (64, 128, 256, 512, 1024), (2, 2, 2, 2))
    found.append(Contest("attention_unet", None, "monai AttentionUnet", monai))
    return [*found, Contest("sa_unet_v2", None, "the same network, plain")]


def _scse(encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet(encoder, encoder_weights=None, decoder_attention_type="scse")


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results; ``smoke``: one tiny network, ``compiled`` changes nothing."""
    return section(list(measure(torch.device("cpu") if smoke else default_device(), smoke)))


def measure(device: torch.device, smoke: bool = False, quick: bool = False) -> Generator[Row]:
    """A row per network and batch; on a GPU all batches that fit."""
    size = 32 if smoke else SIZE
    for contest in (
        [Contest("unet", "test_resnet.r160_in1k", "the same network, plain")]
        if smoke
        else contests()
    ):
        ways, sizes = _ways(contest, device)
        for batch in (1, 2) if smoke else BATCHES[device.type][:: 2 if quick else 1]:
            image = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
            repetitions = 2 if smoke else REPETITIONS if batch == 1 else BATCH_REPETITIONS
            try:
                seconds = in_turn(
                    {name: partial(way, image) for name, way in ways.items()},
                    repetitions,
                    device,
                    1,
                )
            except torch.OutOfMemoryError:
                break
            row = {
                "network": contest.name,
                "peer": contest.peer_name,
                "parameters": sizes,
                "size": size,
            }
            yield row | {"batch": batch, "seconds": seconds}


@torch.no_grad()
def _plainly(net: nn.Module, dtype: torch.dtype | None, image: Tensor) -> Tensor:
    with torch.autocast(image.device.type, dtype) if dtype else ExitStack():
        output = net(image.contiguous() / 255)
    return (output if isinstance(output, Tensor) else output.logits).sigmoid()


@torch.inference_mode()
def _our_way(module: SegmentationModule, dtype: torch.dtype | None, image: Tensor) -> Tensor:
    with torch.autocast(image.device.type, dtype) if dtype else ExitStack():
        return module.probabilities(image)


def _ways(
    contest: Contest, device: torch.device
) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict[str, int]]:
    """From uint8 images to probabilities, and the parameters of both networks."""
    module = (
        SegmentationModule(contest.architecture, contest.encoder, normalization="unit")
        .to(device)
        .eval()
    )
    peer = {"peer": contest.peer()} if contest.peer is not None else {}
    nets = {"our network plainly": copy.deepcopy(module.net), **peer}
    for net in nets.values():
        net.to(device, memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, dtype in {"": None, ", bf16": torch.bfloat16}.items():
        if dtype is None or has_bfloat16(device):
            found |= {f"{way}{name}": partial(_plainly, net, dtype) for way, net in nets.items()}
            found[f"ours{name}"] = partial(_our_way, module, dtype)
    return found, {
        "ours": _parameters(module.net),
        "peer": _parameters(nets.get("peer", module.net)),
    }


def _parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def section(rows: list[Row]) -> Section:
    """Markdown, all numbers, and a chart."""
    bars = {
        f"{row['network']}, batch {row['batch']}": _faster(row, "our network plainly")
        for row in rows
    }
    chart = Bars(
        "Inference in float32, our network in both ways", "times as fast as plain torch", bars, 1.0
    )
    tables = [_same(rows), _against_peers(rows), _best(rows)]
    return Section("\n\n".join([_caption(rows), *tables]), {"rows": rows}, {"speed": chart})


def _faster(row: Row, than: str, precision: str = "") -> list[float]:
    return ratios(row["seconds"][f"{than}{precision}"], row["seconds"][f"ours{precision}"])


def _precisions(rows: Sequence[Row]) -> list[str]:
    return [precision for precision in ("", ", bf16") if f"ours{precision}" in rows[0]["seconds"]]


def _same(rows: Sequence[Row]) -> str:
    """Our network, used plainly and as the project does."""
    precisions = _precisions(rows)
    heads = [
        "network",
        "batch",
        "plain, ms per image",
        *(f"ours, times as fast{p or ', float32'}" for p in precisions),
    ]
    lines = []
    for row in rows:
        each = [1000 * s / row["batch"] for s in row["seconds"]["our network plainly"]]
        faster = [
            spread(_faster(row, "our network plainly", precision), 2) for precision in precisions
        ]
        lines.append([row["network"], row["batch"], spread(each, 1), *faster])
    return f"Our network in both:\n\n{table(heads, lines)}"


def _against_peers(rows: Sequence[Row]) -> str:
    """Other networks for the same purpose."""
    found, precisions = [row for row in rows if "peer" in row["seconds"]], _precisions(rows)
    if not found:
        return ""
    heads = ["network", "peer", "parameters, ours / peer", "batch", "peer, ms per image"]
    heads += [f"ours, times as fast{p or ', float32'}" for p in precisions]
    lines = []
    for row in found:
        each = [1000 * s / row["batch"] for s in row["seconds"]["peer"]]
        cells = [
            row["network"],
            row["peer"],
            " / ".join(f"{n:,}" for n in row["parameters"].values()),
            row["batch"],
        ]
        lines.append(
            [*cells, spread(each, 1), *(spread(_faster(row, "peer", p), 2) for p in precisions)]
        )
    return f"Against peers, whose networks are others:\n\n{table(heads, lines)}"


def _best(rows: Sequence[Row]) -> str:
    """Images per second at the batch that suits each way best."""
    ways = [way for way in rows[0]["seconds"] if "peer" not in way]
    lines = []
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        best = [
            max(
                (row["batch"] / statistics.median(row["seconds"][way]), row["batch"]) for row in own
            )
            for way in ways
        ]
        lines.append([name, *(f"{rate:.1f} (batch {batch})" for rate, batch in best)])
    return f"Our network, images per second at the better batch of those above:\n\n{table(('network', *ways), lines)}"


def _caption(rows: Sequence[Row]) -> str:
    return (
        f"Images of {rows[0]['size']} x {rows[0]['size']}, random weights, from uint8 pixels on the device to probabilities. Plain: "
        "evaluation mode, no gradients, NCHW; ours: inference mode, channels last. Median [quartiles] of "
        f"{len(rows[0]['seconds']['ours'])} (one image) or {len(rows[-1]['seconds']['ours'])} (batches) repetitions in turn; ratios "
        "are those within a repetition."
    )
