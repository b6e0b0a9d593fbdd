"""Encoders: image ``(B, C, H, W)`` -> pyramid, a list of maps from fine to coarse, described by
``channels`` and ``strides``.

With `weights`, which finds what they start from, and `layer_depths` the only file that knows
timm. It is imported where a network asks for it: many do not, and it takes seconds.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.errors import InputError, near_matches
from lightning_seg.models.frame.blocks import DoubleConv, is_empty
from lightning_seg.models.frame.plain_pyramid import TAPS, PlainPyramid, quarter_taps

# what decides where timm takes weights from, or what this project sets itself
_REFUSED = ("checkpoint_path", "cache_dir", "features_only", "in_chans", "scriptable", "no_jit")
STRIDES = (2, 4, 8, 16, 32)
WIDTHS = (64, 128, 256, 512, 1024)  # of the original U-Net
# Families that need a word to accept any image size.
_ANY_SIZE: dict[str, dict[str, Any]] = {"swin": {"strict_img_size": False}}

# Families whose convolutions do not pad, so that maps lack a row and column.
_UNPADDED = ("inception", "nasnet", "xception", "pit_")
# Families that fail on some sizes with words of their own, or none.
_PARTICULAR = (*_UNPADDED, "halo")


class ConvEncoder(nn.Module):
    """The encoder of the original U-Net: blocks with 2x2 max-pooling between them, from scratch.

    Args:
        widths: channels of each level; level ``i`` has stride ``2**i``.
        block: constructor ``(in_channels, out_channels) -> module`` of a level.
        bottom: that of the coarsest level (default: ``block``).
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = WIDTHS,
        block: Callable[[int, int], nn.Module] = DoubleConv,
        bottom: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.channels = tuple(widths)
        self.strides = tuple(2**level for level in range(len(widths)))
        blocks = [block] * (len(widths) - 1) + [bottom or block]
        sizes = zip(blocks, (in_channels, *widths), widths, strict=False)
        self.levels = nn.ModuleList(make(i, o) for make, i, o in sizes)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        pyramid = [self.levels[0](image)]
        for level in list(self.levels)[1:]:
            pyramid.append(level(self.pool(pyramid[-1])))
        return pyramid


class Level(nn.Module):
    """A level in two parts: ``body`` ends in a convolution or a sum, ``finish`` is the norm and
    activation that follow.

    Gives the finished map and, before ``finish``, the raw one.
    """

    def __init__(self, body: nn.Module, finish: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.finish = finish

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.body(x)
        return self.finish(raw), raw


class TappedEncoder(nn.Module):
    """An encoder from scratch that can hand its skips out raw, to a skip module that norms them
    itself.

    Args:
        levels: fine to coarse, ``x -> (map, raw map)`` of half the size (the first: of the same
            size); see `Level`.
        channels: of each level; level ``i`` has stride ``2**i``.
        raw: all maps but the coarsest are the raw ones.
    """

    def __init__(
        self,
        levels: Iterable[nn.Module],
        channels: Sequence[int],
        raw: bool,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.channels = tuple(channels)
        self.strides = tuple(2**level for level in range(len(channels)))
        self.raw = raw

    def forward(self, x: Tensor) -> list[Tensor]:
        skips = []
        for level in self.levels:
            x, raw = level(x)
            skips.append(raw if self.raw else x)
        return [*skips[:-1], x]


class TimmEncoder(nn.Module):
    """Any timm backbone that gives maps; ``name`` is timm's, with the tag
    (``convnext_tiny.fb_in1k``).

    A plain vision transformer, whose maps have one stride (``vit_small_patch14_dinov2.lvd142m``),
    becomes a pyramid by a `PlainPyramid` over four taps; the option ``out_indices`` names other
    blocks. ``mean`` and ``std`` are those of its pre-training, for 3-channel images scaled to
    [0, 1].
    """

    def __init__(
        self,
        name: str,
        in_channels: int = 3,
        options: dict[str, Any] | None = None,
    ) -> None:
        import timm

        super().__init__()
        _check_origin(name, options or {})
        self.name = name
        self.in_channels = in_channels
        self.options = {**_size_options(name), **(options or {})}
        config: Any = timm.get_pretrained_cfg(name)
        self.mean, self.std = tuple(config.mean), tuple(config.std)
        self.one_size, self.own_size = bool(config.fixed_input_size), config.input_size[1:]
        self.body = self._create_for_any_size() if self.one_size else self._create(pretrained=False)
        info: Any = self.body.feature_info
        reductions, widths = info.reduction(), info.channels()
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        self.pyramid: PlainPyramid | None = None
        self.unpadded = any(family in name for family in _UNPADDED)
        self.particular = any(family in name for family in _PARTICULAR)
        if len(set(reductions)) == 1 and len(reductions) > 1:
            self._add_pyramid(int(reductions[0]))
            return
        # of several maps at one stride (`output_stride`) the last counts
        self.levels = [
            i for i, r in enumerate(reductions) if r in STRIDES and r not in reductions[i + 1 :]
        ]
        self.strides = tuple(reductions[i] for i in self.levels)
        if len(set(self.strides)) < 3 or list(self.strides) != sorted(set(self.strides)):
            raise InputError(
                f"encoder {name!r} gives maps at strides {reductions}, neither a pyramid nor maps "
                "of one stride; take one such as 'resnet34', 'efficientnet_b0', "
                "'convnext_tiny.fb_in1k', 'pvt_v2_b0' or 'vit_small_patch14_dinov2.lvd142m'."
            )
        self.channels = tuple(widths[i] for i in self.levels)

    def _create_for_any_size(self) -> nn.Module:
        """The backbone by the argument that lets it take images of any size, where it has one."""
        if "strict_img_size" in self.options:
            self.one_size = False
            return self._create(pretrained=False)
        plain = self.options
        try:
            self.options = {"dynamic_img_size": True, **plain}
            body = self._create(pretrained=False)
            self.one_size = not self.options["dynamic_img_size"]
            return body
        except InputError as error:
            if "dynamic_img_size" not in str(error):
                raise
            self.options = plain
            return self._create(pretrained=False)

    def _add_pyramid(self, patch: int) -> None:
        """Tap the blocks, of which timm's own choice is the last few."""
        if "out_indices" not in self.options:
            blocks = _count_blocks(self.body)
            self.options = {**self.options, "out_indices": quarter_taps(blocks)}
            self.body = self._create(pretrained=False)
        widths = list(getattr(self.body, "feature_info").channels())  # noqa: B009
        if len(widths) != TAPS:
            raise InputError(
                f"encoder {self.name!r} is tapped {len(widths)} times; give {TAPS} blocks as "
                "out_indices, early to late, such as [2, 5, 8, 11]."
            )
        self.levels = list(range(TAPS))
        self.pyramid = PlainPyramid(widths, patch)
        self.strides, self.channels = self.pyramid.strides, self.pyramid.channels

    def _create(self, **extra: Any) -> nn.Module:
        import timm

        try:
            return timm.create_model(
                self.name, features_only=True, in_chans=self.in_channels, **self.options, **extra
            )
        except (
            RuntimeError,
            TypeError,
            AttributeError,
            NotImplementedError,
            AssertionError,
            ValueError,
            KeyError,
            IndexError,
        ) as error:
            raise InputError(
                f"timm cannot build encoder {self.name!r} as a pyramid: {error}"
            ) from error

    def load_weights(self) -> dict[str, str]:
        """Replace the weights by timm's pre-trained ones and return their origin: name, file,
        sha256.

        Raises:
            InputError: no weights on this machine and none to be had.
        """
        from lightning_seg.models.frame.weights import (
            check_complete,
            describe_weights,
            find_weights,
        )

        file = find_weights(self.name)
        # timm lists the classifier's weights; what lacks is checked below
        logging.getLogger("timm").setLevel(logging.ERROR)
        self.body.load_state_dict(
            self._create(pretrained=True, pretrained_cfg_overlay={"file": str(file)}).state_dict()
        )
        check_complete(self.body, file)
        return {"name": self.name, **describe_weights(file)}

    def forward(self, image: Tensor) -> list[Tensor]:
        if is_empty(image):
            return self._empty_pyramid(image)
        height, width = image.shape[-2:]
        fitted = image if self.pyramid is None else self.pyramid.fitted(image)
        maps = self._maps(fitted)
        pyramid = [maps[i] for i in self.levels]
        if self.channels_last:
            pyramid = [m.permute(0, 3, 1, 2).contiguous() for m in pyramid]
        if self.pyramid is not None:
            return self.pyramid(pyramid, height, width)
        if not self.unpadded:
            return pyramid
        return [
            _at_stride(one, stride, height, width)
            for one, stride in zip(pyramid, self.strides, strict=True)
        ]

    def _maps(self, image: Tensor) -> Sequence[Tensor]:
        """The maps of timm's backbone; InputError where it does not take images of this size."""
        if not (self.one_size or self.particular):
            return self.body(image)
        own = self.options.get("img_size", self.own_size)
        sides = (own, own) if isinstance(own, int) else tuple(own)
        if tuple(image.shape[-2:]) == sides:
            return self.body(image)
        try:
            return self.body(image)
        except (RuntimeError, AssertionError, ValueError) as error:
            if not (self.one_size or _is_of_size(error)):
                raise
            if isinstance(error, torch.OutOfMemoryError):
                raise
            height, width = image.shape[-2:]
            only, let = " at least, or such", ""
            if self.one_size:
                own = max(height, width)
                only, let = "", f", or encoder_options: {{img_size: {own}}} where timm lets it"
            raise InputError(
                f"encoder {self.name!r} takes images of {sides[0]} x {sides[1]} pixels{only} and "
                f"these are {height} x {width} (padded to its strides); set data.size (or "
                f"data.crop) to {sides[0]}{let}."
            ) from error

    def _empty_pyramid(self, image: Tensor) -> list[Tensor]:
        """Maps of no image, over which the attention windows of some of timm's encoders fail."""
        height, width = image.shape[-2:]
        return [
            image.new_zeros(0, channels, -(-height // stride), -(-width // stride))
            for channels, stride in zip(self.channels, self.strides, strict=True)
        ]


def _is_of_size(error: Exception) -> bool:
    """Tell whether a backbone of timm fails by the size of the image, as its words say."""
    words = str(error)
    return (
        isinstance(error, AssertionError) or "Kernel size" in words or "must be divisible" in words
    )


def _at_stride(one: Tensor, stride: int, height: int, width: int) -> Tensor:
    """A map (B, C, h, w) of an unpadded backbone at the size that its stride means for an image of
    whole strides."""
    if height % stride or width % stride:
        return one
    size = height // stride, width // stride
    if tuple(one.shape[-2:]) == size:
        return one
    return F.interpolate(one, size, mode="bilinear", align_corners=False)


def _count_blocks(body: Any) -> int:
    """How many maps a plain backbone can give: those of its whole list of features."""
    infos: Any = getattr(getattr(body, "model", body), "feature_info")  # noqa: B009
    return len(infos)


def _check_origin(name: str, options: Mapping[str, Any]) -> None:
    """InputError for what would have timm fetch or unpickle weights, or build another network.

    Names and options come from checkpoints too, whoever wrote them.
    """
    if not re.fullmatch(r"[\w.\-]+", name):
        raise InputError(
            f"encoder is {name[:200]!r}; give one of timm's names, such as resnet34.a1_in1k, without "
            "a place (hf-hub:, local-dir:, a path): weights come from files that are known by name."
        )
    for key in options:
        if key in _REFUSED or str(key).startswith("pretrained"):
            raise InputError(
                f"encoder_options holds {str(key)[:100]!r}, which says where timm takes weights or "
                "code from; leave it out, and start from known weights with pretrained: true."
            )


def _size_options(name: str) -> dict[str, Any]:
    """The arguments that let encoder ``name`` take images of any size; an unknown name is an
    error."""
    import timm

    stem = name.split(".")[0]
    if not timm.is_model(stem):
        near = near_matches(stem, timm.list_models(), 3)
        raise InputError(
            f"no encoder named {name!r}; did you mean {' or '.join(map(repr, near)) or 'another'}? "
            "`lightning-seg encoders '*'` lists timm's."
        )
    if stem != name and name not in timm.list_pretrained(stem + ".*"):
        tags = ", ".join(timm.list_pretrained(stem + ".*"))
        raise InputError(
            f"encoder {stem!r} has no weights tagged {name[len(stem) + 1 :]!r}; there are {tags}."
        )
    return next((options for family, options in _ANY_SIZE.items() if family in stem), {})


def make_encoder(
    encoder: str | None,
    in_channels: int,
    options: dict[str, Any] | None = None,
    widths: Sequence[int] | None = None,
    block: Callable[[int, int], nn.Module] = DoubleConv,
) -> ConvEncoder | TimmEncoder:
    """A timm encoder by name, or ``None`` for the network's own one, from scratch, of ``block`` at
    ``widths`` (None: U-Net's)."""
    if encoder is not None:
        _check_origin(encoder, options or {})
        _size_options(encoder)  # a misspelt name is the first thing to say
        if widths is not None:
            raise InputError(
                f"widths {tuple(widths)} are for an encoder from scratch and {encoder!r} has its own; leave widths or encoder out."
            )
        return TimmEncoder(encoder, in_channels, options)
    if options:
        raise InputError(f"encoder_options {options} need a timm encoder; name one in `encoder`.")
    return ConvEncoder(in_channels, WIDTHS if widths is None else widths, block)
