"""``lightning-seg cka``: how alike the layers of one or two trained networks are. Nguyen, Raghu,
Kornblith, ICLR 2021.

    CKA(X, Y) = sum_b HSIC(X_b X_b', Y_b Y_b') / sqrt(sum_b HSIC(X_b X_b', X_b X_b') * sum_b
    HSIC(Y_b Y_b', Y_b Y_b')) HSIC(K, M) = (tr(K M) + 1'K 1 1'M 1 / ((n - 1)(n - 2)) - 2 1'K M 1 /
    (n - 2)) / (n (n - 3)),  diagonals of K and M zero

X_b are the outputs of a layer for the n images of a batch b, flattened. This HSIC (Song et al.
2012) is unbiased: the value does not depend on the size of the batches.
"""

import argparse
import csv
import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.analysis.profiling import profiled_device
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.models.frame.normalization import ImageNetwork
from lightning_seg.options import OptionParser
from lightning_seg.plots import Axis, Plot, write_picture
from lightning_seg.runs import find_checkpoint
from lightning_seg.runs.checkpoints import read_checkpoint
from lightning_seg.runs.trained_network import read_network

LEAST = 4  # images of a batch: the estimator divides by n - 3
SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout2d)  # they change nothing in evaluation mode


def gram(features: Tensor) -> Tensor:
    """X (n, ...) -> X X' (n, n), float64, of the centred features over their number.

    The unbiased HSIC is the same for centred features (a_i + a_j added to each entry off the
    diagonal cancels), and far more exact.
    """
    x = features.detach().flatten(1).float()
    x = x - x.mean(0)
    return (x @ x.T).double().cpu() / x.shape[1]


def hsic(k: Tensor, m: Tensor) -> Tensor:
    """The unbiased HSIC of all pairs of Gram matrices: k (L1, n, n), m (L2, n, n) -> (L1, L2)."""
    n = k.shape[-1]
    k, m = (g - torch.diag_embed(g.diagonal(dim1=1, dim2=2)) for g in (k, m))
    k_rows, m_rows = k.sum(2), m.sum(2)
    trace = k.flatten(1) @ m.flatten(1).T  # both are symmetric
    totals = k_rows.sum(1)[:, None] * m_rows.sum(1) / ((n - 1) * (n - 2))
    return (trace + totals - 2 / (n - 2) * k_rows @ m_rows.T) / (n * (n - 3))


class MinibatchCKA:
    """Linear CKA between all layers of two networks, batch by batch."""

    def __init__(self) -> None:
        self.cross, self.first, self.second = (torch.zeros(()) for _ in range(3))

    def update(self, k: Tensor, m: Tensor) -> None:
        """Gram matrices (L1, n, n) and (L2, n, n) of the same n >= 4 images."""
        if k.shape[-1] < LEAST:
            raise InputError(
                f"a batch of {k.shape[-1]} images is too small for CKA; give {LEAST} or more."
            )
        self.cross = self.cross + hsic(k, m)
        self.first = self.first + hsic(k, k).diagonal()
        self.second = self.second + hsic(m, m).diagonal()

    def compute(self) -> Tensor:
        """(L1, L2). NaN for a layer whose output does not depend on the image."""
        return self.cross / (self.first[:, None] * self.second).sqrt()


def layer_grams(
    net: nn.Module,
    image: Tensor,
    pattern: str = "*",
    run: Callable[[Tensor], Any] | None = None,
) -> dict[str, Tensor]:
    """Gram matrices of the outputs of all layers (modules without children) whose name matches, in
    the order of their calls.

    A layer that is called again counts again, as ``name#2``. ``run`` is called instead of ``net``
    itself, to prepare the image.
    """
    grams: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def keep(
        name: str,
        _: nn.Module,
        inputs: Any,
        output: Any,
    ) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and len(output) == len(image):
            calls[name] = calls.get(name, 0) + 1
            grams[name if calls[name] == 1 else f"{name}#{calls[name]}"] = gram(output)

    layers = [
        (n, m)
        for n, m in net.named_modules()
        if not list(m.children()) and not isinstance(m, SKIPPED)
    ]
    handles = [m.register_forward_hook(partial(keep, n)) for n, m in layers if fnmatch(n, pattern)]
    try:
        with torch.inference_mode():
            (run or net)(image)
    finally:
        for handle in handles:
            handle.remove()
    if not grams:
        raise InputError(
            f"no layer of {type(net).__name__} matches {pattern!r}; give a pattern such as "
            "'decoder.*'."
        )
    return grams


def compare_layers(
    first: ImageNetwork,
    second: ImageNetwork,
    images: Iterable[Tensor],
    pattern: str = "*",
) -> tuple[list[str], list[str], Tensor]:
    """Names of the layers of both, and their CKA (L1, L2), over batches of images (B, C, H, W)
    uint8."""
    estimate, names, others = MinibatchCKA(), [], []
    for image in images:
        grams = layer_grams(first.net, image.to(first.mean.device), pattern, first)
        same = (
            grams
            if second is first
            else layer_grams(second.net, image.to(second.mean.device), pattern, second)
        )
        names, others = list(grams), list(same)
        estimate.update(torch.stack([*grams.values()]), torch.stack([*same.values()]))
    return names, others, estimate.compute()


def validation_images(
    checkpoint: str | Path,
    batches: int,
    batch_size: int,
    root: str | None = None,
) -> list[Tensor]:
    """Batches (B, C, H, W) uint8 of the validation split of the data that a checkpoint was trained
    on."""
    saved = read_checkpoint(checkpoint).get("datamodule_hyper_parameters", {})
    options = {key: value for key, value in saved.items() if not key.startswith("_")}
    options |= {"batch_size": batch_size, "num_workers": 0} | ({"root": root} if root else {})
    data = SegmentationDataModule(**options)
    data.setup("validate")
    images = [batch["image"] for batch in islice(data.val_dataloader(), batches)]
    images = [image for image in images if len(image) >= LEAST]
    if not images:
        raise InputError(
            f"the validation split has fewer than {LEAST} images, too few for CKA; give a larger "
            "one."
        )
    return images


def draw_similarity(
    path: Path,
    similarity: Tensor,
    rows: list[str],
    columns: list[str],
    titles: tuple[str, str],
) -> None:
    """The heat map as PNG, input at the bottom left."""
    alt = "linear CKA (unbiased HSIC, minibatches)"
    across = _layer_axis(columns, f"{titles[1]}; colours: {alt}", turned=True)
    plot = Plot(across, _layer_axis(rows, titles[0]), alt, height=800, width=900, margin=48)
    plot.cells(similarity.double().numpy())
    write_picture(path, plot)


def _layer_axis(names: list[str], title: str, turned: bool = False) -> Axis:
    """An axis of layers; there is room for the names of forty."""
    every = math.ceil(len(names) / 40)
    shown = tuple(name if place % every == 0 else "" for place, name in enumerate(names))
    return Axis(f"layers of {title}", -0.5, len(names) - 0.5, names=shown, turned=turned)


def write_table(
    path: Path,
    similarity: Tensor,
    rows: list[str],
    columns: list[str],
) -> None:
    """The numbers of the heat map: a row per layer of the first network, a column per layer of the
    second."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", *columns])
        writer.writerows(
            [name, *(f"{v:.6f}" for v in line.tolist())]
            for name, line in zip(rows, similarity, strict=True)
        )


def main(args: list[str]) -> None:
    """``lightning-seg cka``."""
    options = _cka_parser().parse_args(args)
    if options.batches < 1 or options.batch_size < LEAST:
        raise InputError(
            f"cka over {options.batches} batches of {options.batch_size} images is not defined; "
            f"give 1 batch or more, and {LEAST} images or more."
        )
    device = profiled_device(options.device)
    named = options.checkpoint, options.other or options.checkpoint
    paths = [str(find_checkpoint(text)) for text in named]
    first = read_network(paths[0], options.trust_code).to(device)
    second = read_network(paths[1], options.trust_code).to(device) if options.other else first
    channels = [network.form.in_channels for network in (first, second)]
    if channels[0] != channels[1]:
        raise InputError(
            f"the networks take {channels[0]} and {channels[1]} channels; compare networks of one "
            "input."
        )
    images = validation_images(paths[0], options.batches, options.batch_size, options.root)
    rows, columns, similarity = compare_layers(first, second, images, options.layers)
    output = Path(options.output)
    titles = (_title(first, paths[0]), _title(second, paths[1]))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draw_similarity(output, similarity, rows, columns, titles)
        write_table(output.with_suffix(".csv"), similarity, rows, columns)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot write {str(output)!r}: {error}; give --output a path such as cka.png."
        ) from error
    print(
        f"linear CKA of {len(rows)} x {len(columns)} layers over {sum(map(len, images))} "
        "validation images"
    )
    print(f"heat map:  {output}\nnumbers:   {output.with_suffix('.csv')}")


def _title(network: ImageNetwork, path: str) -> str:
    form = network.form
    return f"{form.architecture}{f' x {form.encoder}' if form.encoder else ''}\n{path}"


def _cka_parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lightning-seg cka",
        description="Linear CKA between all layers of a trained network, or of two, on the first one's validation images.",
    )
    parser.add_argument("checkpoint", help="a .ckpt file, or the folder or name of a run")
    parser.add_argument(
        "other", nargs="?", help="a second one; without it, the first is compared with itself"
    )
    parser.add_argument(
        "--batches", type=int, default=10, help="batches of validation images (default 10)"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="images of a batch (default 16)")
    parser.add_argument(
        "--layers", default="*", metavar="GLOB", help="names of layers, such as 'decoder.*'"
    )
    parser.add_argument("--root", help="where the data lies, if not where it was in training")
    parser.add_argument(
        "--trust_code",
        action="store_true",
        help="let networks outside lightning_seg run their code",
    )
    parser.add_argument(
        "--device", help="such as cpu or cuda (default: the GPU where there is one)"
    )
    parser.add_argument(
        "--output", default="cka.png", help="the heat map; the numbers go beside it as .csv"
    )
    return parser
