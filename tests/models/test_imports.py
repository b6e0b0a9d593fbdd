"""What importing the networks costs: heavy libraries come with the encoders that need them."""

import subprocess
import sys

HEAVY = ("timm", "torchvision", "monai", "huggingface_hub", "scipy", "skimage", "matplotlib")
LISTING = f"""
import sys
from lightning_seg import models
for name in models.names():
    models.options(name)
print(*[name for name in {HEAVY} if name in sys.modules])
models.create("unet", encoder="test_resnet")
print("timm" in sys.modules)
"""


def test_networks_are_listed_without_the_libraries_of_their_encoders() -> None:
    listed, timm = subprocess.check_output([sys.executable, "-c", LISTING], text=True).splitlines()
    assert listed.split() == []
    assert timm == "True"
