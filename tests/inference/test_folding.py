"""A network whose batch norms lie in its convolutions computes what it did."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lightning_seg.inference.ensemble import Ensemble, Trained
from lightning_seg.inference.folding import folded
from lightning_seg.models.frame.normalization import ImageNetwork, NetworkForm

WIDTHS = {"widths": [4, 8, 16]}


def trained(form: NetworkForm) -> ImageNetwork:
    """With statistics and weights of batch norms as a training leaves them."""
    torch.manual_seed(0)
    network = ImageNetwork(form)
    for module in norms(network):
        module.running_mean.normal_(0, 0.3)
        module.running_var.uniform_(0.5, 2)
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def image(side: int = 64) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


def assert_same(one: ImageNetwork, other: ImageNetwork, pixels: Tensor) -> None:
    with torch.inference_mode():
        a, b = one(pixels).logits, other(pixels).logits
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.std()))


@pytest.mark.parametrize(
    ("form", "left"),
    [
        (NetworkForm("unet", options=WIDTHS), 0),
        (NetworkForm("unet", encoder="mobilenetv2_100"), 0),
        (NetworkForm("attention_unet", encoder="test_efficientnet"), 0),
        (NetworkForm("r2unet", options=WIDTHS), 10),  # all of its norms are of sums
        (NetworkForm("deep_residual_unet"), None),  # norms before convolutions
        (NetworkForm("sa_unet_v2"), None),
    ],
    ids=lambda given: str(given)[:60],
)
def test_logits_are_equal_to_rounding_with_fewer_norms(form: NetworkForm, left: int | None) -> None:
    network = trained(form)
    found = folded(network)
    assert_same(network, found, image())
    if left is not None:
        assert norms(network)
        assert len(norms(found)) == left


def test_the_network_itself_keeps_its_norms_and_weights() -> None:
    network = trained(NetworkForm("unet", options=WIDTHS))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class _Blocks(nn.Module):
    """A convolution whose maps are read twice, one under two norms, and one norm over two."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.twice = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.plain = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(4))
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(x)
        x = x + self.norms[0](x)
        x = self.norms[1](self.shared(x)) + self.norms[2](self.shared(x.relu()))
        for convolution in self.plain:
            x = self.norms[3](convolution(x)).relu()
        return self.head(x)


def test_what_is_read_elsewhere_or_shared_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    form = NetworkForm("unet", options=WIDTHS)
    network = trained(form)
    network.net = _Blocks(3, 1)
    network.eval()
    for module in norms(network):
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.normal_(module.bias)
    found = folded(network)
    assert found is network
    assert_same(network, found, image())


def test_a_network_of_one_size_is_tried_at_its_own() -> None:
    form = NetworkForm("unet", encoder="test_vit")
    network = trained(form)
    assert_same(network, folded(network, 160), image(160))


def test_predictions_are_of_folded_networks_and_the_modules_stay() -> None:
    network = trained(NetworkForm("unet", options=WIDTHS, classes=("polyp",)))
    ensemble = Ensemble([network], Trained(("polyp",), 3, 64, "kvasir_seg", {}))
    pixels = image()
    with torch.inference_mode():
        expected = network.probabilities(pixels)
    torch.testing.assert_close(ensemble.probabilities(pixels), expected, rtol=0, atol=1e-5)
    assert norms(ensemble.modules[0])
    assert not norms(ensemble._computing[0])


def test_networks_that_have_computed_can_be_copied() -> None:
    network = trained(NetworkForm("unet", options=WIDTHS, classes=("polyp",)))
    ensemble = Ensemble([network], Trained(("polyp",), 3, 64, "kvasir_seg", {}))
    pixels = image()
    found = ensemble.probabilities(pixels)
    assert torch.equal(copy.deepcopy(ensemble).probabilities(pixels), found)
