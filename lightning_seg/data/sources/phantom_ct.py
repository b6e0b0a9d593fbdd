"""Phantom CT: slices of an abdomen with liver and tumours, made by a program."""

from lightning_seg.data.sources.phantom import Phantom
from lightning_seg.data.sources.phantom.abdomen import SLICES_PER_PATIENT


class PhantomCT(Phantom):
    """CT-like slices with liver and tumours, four of each patient."""

    kind = "ct"
    classes: tuple[str, ...] = ("liver", "tumor")
    in_channels = 1
    default_protocol = "phantom-ct"

    def group(self, index: int) -> str:
        """The patient of a slice."""
        return f"patient-{index // SLICES_PER_PATIENT:02d}"
