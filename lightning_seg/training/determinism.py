"""Same seed, same device, same result? The promise of a run, and what it gives up for speed.

On a CPU: yes. `fit` asks torch for deterministic algorithms (``--trainer.deterministic warn``),
and the same command on the same processor, with the same number of threads, gives the same
weights and scores to the bit, also when it was killed and resumed from its last epoch.

On a GPU: no, unless `fit` is told to. The gradient of bilinear upsampling, in nearly every
network here, adds with atomics in no fixed order, so two runs of one seed start alike and drift
apart by rounding; torch's deterministic replacement is an indexed sum of about twice as many
operations in UNet 3+. cuDNN also tries its kernels and keeps the fastest
(``--trainer.benchmark``) where all images have one size. A seed still fixes the split, the order
of images, their augmentation and the first weights, but not the last digits of the result:
compare several seeds. With ``--trainer.deterministic warn`` the promise holds on one type of GPU,
for all operations that torch can do deterministically; torch names the others.

`validate`, `test` and `predict` always ask for deterministic algorithms.
"""

from typing import Any, NamedTuple

import torch

_ON_GPU = ("auto", "gpu", "cuda")


class Determinism(NamedTuple):
    """Lightning's trainer options of these names."""

    deterministic: bool | str
    benchmark: bool | None


def automatic_determinism(command: str | None, accelerator: Any, fixed_size: bool) -> Determinism:
    """The options that hold where neither is named.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        accelerator: of the trainer.
        fixed_size: whether all images have one size.
    """
    on_gpu = accelerator in _ON_GPU and torch.cuda.is_available()
    if command == "fit" and on_gpu:
        return Determinism(deterministic=False, benchmark=fixed_size)
    return Determinism(deterministic="warn", benchmark=None)
