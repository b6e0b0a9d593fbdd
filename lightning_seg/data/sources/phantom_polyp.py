"""Phantom polyps: colonoscopy-like frames, made by a program."""

from lightning_seg.data.sources.phantom import Phantom


class PhantomPolyp(Phantom):
    """Colonoscopy-like frames with polyps."""

    kind = "polyp"
    classes: tuple[str, ...] = ("polyp",)
    in_channels = 3
    default_protocol = "phantom-polyp"
