"""A residual block of few channels: with a stride in its shortcut, torch 2.15 corrupted memory in the backward pass on the CPU."""

import torch

from lightning_seg.models.frame.blocks import ResidualBlock


def test_gradients_of_a_narrow_strided_block_do_not_depend_on_the_memory_format():
    torch.manual_seed(0)
    block = ResidualBlock(4, 8, stride=2)
    image = torch.rand(2, 4, 33, 32)
    gradients = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        block.zero_grad()
        inputs = image.clone(memory_format=memory_format).requires_grad_()
        block.to(memory_format=memory_format)(inputs).square().sum().backward()
        gradients.append([inputs.grad, *(p.grad.clone() for p in block.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-3, atol=1e-3
        )  # sums of thousands of float32
