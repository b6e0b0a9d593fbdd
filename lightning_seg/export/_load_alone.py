"""Load an exported folder as a stranger would, in an interpreter of its own:
``python -P _load_alone.py FOLDER IN OUT``.

IN and OUT are safetensors. IN holds ``pixel_values`` (B, C, H, W) and, where the model takes
pictures, ``pictures`` (B, H, W, C) uint8; OUT gets the model's ``logits`` and what the image
processor makes of the pictures, ``processed``.
"""

import sys

# What the folder has to do without: lightning_seg and what it needs beyond torch, timm,
# transformers, pillow.
ABSENT = (
    *(
        "lightning_seg",
        "experiments",
        "lightning",
        "pytorch_lightning",
        "torchmetrics",
        "monai",
        "jsonargparse",
    ),
    *("cv2", "albumentations", "skimage", "nibabel"),
)


def main(folder: str, given: str, found: str) -> None:
    sys.modules |= dict.fromkeys(ABSENT)  # type: ignore[arg-type]  # None: an import of it fails as if it were not there

    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoImageProcessor, AutoModel

    tensors = load_file(given)
    model, report = AutoModel.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    left = {kind: sorted(map(str, names)) for kind, names in report.items() if names}
    if left:
        raise SystemExit(f"model.safetensors does not fit the network: {left}")
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        tensors["logits"] = model.eval()(pixel_values=tensors.pop("pixel_values"))["logits"]
    if "pictures" in tensors:
        pictures = list(tensors.pop("pictures").numpy())
        tensors["processed"] = processor(pictures, return_tensors="pt")["pixel_values"]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
