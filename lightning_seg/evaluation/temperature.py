"""Scaling of logits after training, so that probabilities are as often right as they say.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017: ``temperature`` divides the logits
by a number (of each class, where classes are independent), which moves no mask at .5; ``vector``
has a scale and a shift for each. Both are the minimum of the negative log-likelihood.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_seg.evaluation.probability import calibration_sums, ece

Method = Literal["temperature", "vector"]
_STEPS = 100


@dataclass(frozen=True)
class PixelSample:
    """Pixels of the images that a calibration is fitted to.

    Attributes:
        logits: (N, C); of exclusive classes the background comes first.
        truth: (N, K) in {0, 1}.
        exclusive: whether a pixel is of one class at most.
    """

    logits: Tensor
    truth: Tensor
    exclusive: bool = False

    @property
    def probability(self) -> Tensor:
        """(N, K)."""
        if self.exclusive:
            return self.logits.softmax(1)[:, 1:]
        return self.logits.sigmoid()

    @property
    def likelihood_loss(self) -> Tensor:
        """The mean negative log-likelihood of a pixel, or of a pixel and class."""
        if not self.exclusive:
            return F.binary_cross_entropy_with_logits(self.logits, self.truth)
        background = 1 - self.truth.amax(1, keepdim=True)
        return F.cross_entropy(self.logits, torch.cat([background, self.truth], 1).argmax(1))

    def expected_errors(self) -> list[float]:
        """The expected calibration error of each class."""
        pairs = zip(self.probability.T.numpy(), self.truth.T.numpy() > 0, strict=True)
        return [float(ece(calibration_sums(*pair))) for pair in pairs]

    def scaled(self, scale: Tensor, shift: Tensor) -> "PixelSample":
        """The same pixels with other logits."""
        return PixelSample(self.logits * scale + shift, self.truth, self.exclusive)


def fit_scaling(sample: PixelSample, method: Method = "temperature") -> tuple[Tensor, Tensor]:
    """The scale and shift (C,) of the logits with the largest likelihood."""
    channels = sample.logits.shape[1]
    single = method == "temperature" and sample.exclusive
    log_scale = torch.zeros(1 if single else channels, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(channels, dtype=torch.float64, requires_grad=method == "vector")
    wide = PixelSample(sample.logits.double(), sample.truth.double(), sample.exclusive)
    free = [each for each in (log_scale, shift) if each.requires_grad]
    search = torch.optim.LBFGS(free, max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss = wide.scaled(log_scale.exp(), shift).likelihood_loss
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    search.step(closure)
    scale = log_scale.detach().exp().expand(channels)
    return scale.clone(), shift.detach()
