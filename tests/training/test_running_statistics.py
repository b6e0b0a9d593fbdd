"""A training that is too short for its batch norms says so."""

import pytest
import torch
from torch import nn

from lightning_seg import models
from lightning_seg.training.running_statistics import slow_statistics


def norm(momentum):
    return nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1, momentum=momentum))


@pytest.mark.parametrize(
    ("momentum", "batches", "slow"),
    [(0.1, 28, True), (0.1, 29, False), (0.01, 298, True), (0.01, 299, False)],
)
def test_the_statistics_must_forget_their_start(momentum, batches, slow):
    net = norm(momentum)
    caution = slow_statistics(net, batches)
    assert bool(caution) == slow
    if not slow:
        return
    assert f"train for {batches + 1} batches or more" in caution
    statistics = net[1]
    statistics.running_mean.fill_(1.0)
    net[0].weight.data.zero_()
    net[0].bias.data.zero_()
    for _ in range(batches):
        net(torch.zeros(2, 3, 4, 4))
    left = float(statistics.running_mean)  # of a mean of 1 amid batches of mean 0
    assert left > 0.05
    assert f"{left:.0%} of its first statistics" in caution


def test_the_slowest_norm_counts_and_what_does_not_learn_or_was_trained_before_does_not():
    slow, fast = norm(0.001), norm(0.5)
    both = nn.Sequential(slow, fast)
    assert "momentum 0.001" in slow_statistics(both, 20)
    assert not slow_statistics(both, 20, trained_before=slow)
    slow.requires_grad_(False)
    assert not slow_statistics(both, 20)
    assert not slow_statistics(nn.Conv2d(3, 1, 1), 1)
    assert not slow_statistics(nn.BatchNorm2d(1, momentum=None), 1)


@pytest.mark.parametrize(("name", "momentum"), [("nanonet", 0.01), ("unet", 0.1)])
def test_networks_after_keras_need_ten_times_the_batches(name, momentum):
    tiny = getattr(models.find(name), "tiny", {})
    assert f"momentum {momentum:g} still" in slow_statistics(models.create(name, **tiny), 20)
    assert bool(slow_statistics(models.create(name, **tiny), 200)) == (momentum == 0.01)
