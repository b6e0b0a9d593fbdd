"""DropBlock: Ghiasi et al., "DropBlock: A Regularization Method for Convolutional
Networks", NeurIPS 2018.

    y = x * kept / mean(kept)        a pixel is kept unless a square of a drawn corner covers it

Differs from the paper: corners are drawn in each channel on its own, as in the code of SA-UNet.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import InputError


class DropBlock(nn.Module):
    """Sets squares of ``size`` pixels to zero in training, in each channel on its own.

    Squares lie wholly inside the map. About ``rate`` of it is dropped, and the rest is scaled up
    by the kept part of the batch.
    """

    def __init__(self, rate: float, size: int = 7) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise InputError(f"drop_rate is {rate}; give a share from 0 to below 1, such as 0.15.")
        self.rate = rate
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0 or x.numel() == 0:
            return x
        kept = ~covered_squares(self._corners(x), min(self.size, *x.shape[-2:]))
        scale = kept.numel() / kept.count_nonzero().clamp_min(1)
        # of a bool the conversion is slow, of the same bytes as whole numbers it is not
        return x * kept.view(torch.uint8).to(x.dtype).mul_(scale)

    def _corners(self, x: Tensor) -> Tensor:
        """The corners at which squares begin: (B, C, H - size + 1, W - size + 1) bool, in
        channels-last memory."""
        batch, channels, height, width = x.shape
        size = min(self.size, height, width)
        rows, columns = height - size + 1, width - size + 1
        chance = self.rate * height * width / size**2 / (rows * columns)
        drawn = bernoulli_draws(batch * rows * columns * channels, chance, x.device)
        return drawn.view(batch, rows, columns, channels).permute(0, 3, 1, 2)


def bernoulli_draws(number: int, chance: float, device: torch.device) -> Tensor:
    """``number`` independent draws, each True with ``chance`` (above 0, below 1), as bool.

    Instead of a random number for each draw, one for each True: the distance to the next True has
    a geometric distribution. So many are drawn that they end before ``number`` once in 10^14 calls.
    """
    expected = number * chance
    gaps = torch.empty(math.ceil(expected + 8 * math.sqrt(expected) + 32), device=device)
    gaps = gaps.geometric_(chance).clamp_(max=number + 1)
    places = gaps.long().cumsum(0) - 1
    # what lies beyond the last draw goes to one more place, which is cut off
    drawn = torch.zeros(number + 1, dtype=torch.bool, device=device)
    return drawn.index_fill_(0, places.clamp_(max=number), True)[:number]


def covered_squares(corners: Tensor, size: int) -> Tensor:
    """corners (..., H - size + 1, W - size + 1) bool -> (..., H, W), True in the square of each.

    A square lies below and right of its corner. Unions of shifts whose reach doubles: on the CPU
    about 50 times as fast as max-pooling over the square.
    """
    found = F.pad(corners, [size - 1] * 4)
    for axis in (-2, -1):
        reach = 1
        while reach < size:
            step = min(reach, size - reach)
            length = found.shape[axis] - step
            found = found.narrow(axis, 0, length) | found.narrow(axis, step, length)
            reach += step
    return found
