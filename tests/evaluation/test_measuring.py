"""Measures in processes beside the network equal those in this one to the last digit."""

import numpy as np
import pytest
import torch

from lightning_seg.evaluation import measuring
from lightning_seg.evaluation.counts import ImageMeasures
from lightning_seg.evaluation.cut import Cut
from lightning_seg.evaluation.measures import FAMILIES


def batches(count=5, classes=2, side=24):
    generator = torch.Generator().manual_seed(3)
    for number in range(count):
        size = 3 if number < count - 1 else 1
        probability = torch.rand(size, classes, side, side, generator=generator)
        mask = (torch.rand(size, classes, side, side, generator=generator) > 0.6).to(torch.uint8)
        region = torch.randint(0, 3, (size, 1, side, side), generator=generator, dtype=torch.uint8)
        yield probability, mask, torch.arange(size) + 3 * number, region if number % 2 else None


def measured(images):
    metric = ImageMeasures(2, tuple(FAMILIES), Cut(0.4), images)
    for batch in batches():
        metric.update(*batch)
    helpers = metric._queue._helpers
    metric.finish()
    return helpers, metric.compute()


def test_processes_change_no_digit_and_end_with_the_epoch(monkeypatch):
    monkeypatch.setattr(measuring, "usable_cores", lambda: 3)
    none, here = measured(13)
    monkeypatch.setattr(measuring, "MANY_PIXELS", 1000)
    helpers, beside = measured(13)
    assert none is None
    assert len(helpers) == 2
    assert not helpers.end.alive
    assert here.measures.keys() == beside.measures.keys()
    for name, values in here.measures.items():
        np.testing.assert_array_equal(values, beside.measures[name], err_msg=name)
    for one, other in zip(here[2:], beside[2:], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(here.images, beside.images)
    assert np.array_equal(here.images, np.arange(13))


@pytest.mark.parametrize(("cores", "images"), [(1, 10**6), (8, 2)])
def test_no_process_starts_for_few_images_or_on_one_core(cores, images, monkeypatch):
    monkeypatch.setattr(measuring, "usable_cores", lambda: cores)
    helpers, _ = measured(images)
    assert helpers is None
