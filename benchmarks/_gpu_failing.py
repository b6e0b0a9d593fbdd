"""A network for the GPU session: the last process of its training runs out of memory."""

import os

import torch
from torch import Tensor, nn


class OutOfMemory(nn.Module):
    """One convolution; in the second training step the last process asks for more than there is."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_classes, 1)
        self.steps = 0

    def forward(self, image: Tensor) -> Tensor:
        self.steps += self.training
        last = int(os.environ.get("WORLD_SIZE", "1")) - 1
        if self.steps == 2 and int(os.environ.get("LOCAL_RANK", "0")) == last:
            if image.is_cuda:
                torch.empty(2**45, device=image.device)
            raise torch.OutOfMemoryError("out of memory, as asked for")
        return self.conv(image)
