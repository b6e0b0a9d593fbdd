"""Phantom kidneys: three tissues that touch and exclude each other, made by a program."""

from lightning_seg.data.sources.phantom import Phantom


class PhantomKidney(Phantom):
    """Kidneys with cortex, medulla and pelvis."""

    kind = "kidney"
    classes: tuple[str, ...] = ("cortex", "medulla", "pelvis")
    in_channels = 1
    default_protocol = "phantom-kidney"
