"""What a run promises to repeat, and what it gives up for speed where nobody says.

On a CPU, `fit` asks torch for deterministic algorithms (``--trainer.deterministic warn``): the same
command on the same processor, with the same number of threads, gives the same weights and scores to
the bit, also when it was killed and resumed from its last epoch.

On a GPU it does not, unless told to. The gradient of bilinear upsampling, in nearly every network
here, adds with atomics in no fixed order, so two runs of one seed start alike and drift apart by
rounding; torch's deterministic replacement is an indexed sum that takes about twice as many kernels
in UNet 3+. cuDNN also tries its kernels and keeps the fastest (``--trainer.benchmark``) where all
images have one size. So there a seed fixes the split, the order of images, their augmentation and the
first weights, but not the last digits of the result: compare several seeds. ``--trainer.deterministic
warn`` gives the promise back, on one and the same type of GPU, for all operations that torch can do
deterministically, and names the others.

`validate`, `test` and `predict` always ask for deterministic algorithms: without gradients they cost
nothing.
"""

from typing import Any, NamedTuple

import torch

_ON_GPU = ("auto", "gpu", "cuda")


class Determinism(NamedTuple):
    """Lightning's trainer options of these names."""

    deterministic: bool | str
    benchmark: bool | None


def automatic_determinism(command: str | None, accelerator: Any, fixed_size: bool) -> Determinism:
    """What holds where neither is named.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        accelerator: of the trainer.
        fixed_size: whether all images have one size.
    """
    on_gpu = accelerator in _ON_GPU and torch.cuda.is_available()
    if command == "fit" and on_gpu:
        return Determinism(deterministic=False, benchmark=fixed_size)
    return Determinism(deterministic="warn", benchmark=None)
