"""What every test shares: one thread (many small models, two cores), no hub, no display, the same examples each time."""

import os
import signal
from collections.abc import Iterator
from functools import lru_cache

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores Ctrl-C, and so would every process that a test starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from lightning_seg.data.sources import phantom

# a machine that is busy with other things is no fault of what is tested
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **UNHURRIED)
settings.load_profile("same")
torch.set_num_threads(1)

_SMALL = 128  # pixels a side


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """Small phantoms that a data set reads are drawn once in a session, not again in every fit; each reader gets a copy."""
    draw = phantom.render_phantom
    drawn = lru_cache(4096)(draw)

    def render(kind: str, seed: int, index: int, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        if size > _SMALL:
            return draw(kind, seed, index, size)
        image, mask = drawn(kind, seed, index, size)
        return image.copy(), mask.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "render_phantom", render)
        yield
