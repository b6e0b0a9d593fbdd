"""The trained network as a model of transformers: images in [0, 1] -> logits, one channel per
class."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput

from .configuration_lightning_seg import LightningSegConfig
from .losses import WeightedLoss
from .network import Network


class LightningSegModel(PreTrainedModel):
    """``model(pixel_values=x)["logits"].sigmoid() > 0.5`` are the masks, one per class, of images
    x in [0, 1].

    Of exclusive classes (``config.exclusive``) ``["logits"].argmax(1)`` is the label map: 0 is the
    background, 1 the first class.
    """

    config_class = LightningSegConfig
    base_model_prefix = "net"
    main_input_name = "pixel_values"
    mean: Tensor
    std: Tensor

    def __init__(self, config: LightningSegConfig) -> None:
        super().__init__(config)
        self.net: Any = Network(**config.network)
        # persistent: other buffers hold no values after from_pretrained
        self.register_buffer("mean", torch.tensor(config.image_mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(config.image_std).view(1, -1, 1, 1))
        self.criterion: Any = WeightedLoss(config.loss, config.classes, config.exclusive)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Only what no file of weights holds; a network from scratch keeps the weights it was
        built with."""
        if hasattr(module, "init_non_persistent_buffers"):  # timm's modules
            module.init_non_persistent_buffers()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> SemanticSegmenterOutput | tuple[Tensor, ...]:
        """Logits, and with ``labels`` the training loss.

        Args:
            pixel_values: (B, C, H, W) in [0, 1], or uint8; any height and width, best those of
                training.
            labels: (B, K, H, W) in {0, 1}, one channel per class; of a single class also (B, H, W).

        Returns:
            ``loss``, a scalar, and ``logits`` (B, K, H, W).
        """
        if pixel_values.dtype == torch.uint8:
            pixel_values = pixel_values.to(self.mean.dtype) / 255
        image = pixel_values.to(self.mean.dtype).contiguous(memory_format=torch.channels_last)
        output = self.net((image - self.mean) / self.std)
        logits, deep, penalty = (output, (), None) if isinstance(output, Tensor) else output
        if self.config.calibration is not None:
            parts = (self.config.calibration[name] for name in ("scale", "shift"))
            scale, shift = (logits.new_tensor(part).view(1, -1, 1, 1) for part in parts)
            logits = logits * scale + shift
        loss = None if labels is None else self._loss([logits, *deep], penalty, labels)
        if return_dict if return_dict is not None else getattr(self.config, "return_dict", True):
            return SemanticSegmenterOutput(loss=loss, logits=logits)
        return (logits,) if loss is None else (loss, logits)

    def _loss(self, maps: list[Tensor], penalty: Tensor | None, labels: Tensor) -> Tensor:
        """The training loss of logits and deep outputs, and a regularizer's penalty."""
        mask = (labels[:, None] if labels.ndim == 3 else labels).to(maps[0].dtype)
        expected = (len(maps[0]), len(self.config.classes), *maps[0].shape[2:])
        if mask.shape != expected:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} do not fit logits of shape "
                f"{tuple(maps[0].shape)}; "
                "give one channel of 0 and 1 per class."
            )
        loss = self.criterion.supervised(maps, mask)
        return loss if penalty is None else loss + penalty.float()
