"""``lightning-seg export``: from a checkpoint to a model that others load, without lightning_seg."""

from importlib import import_module

from lightning_seg.errors import unknown

KINDS = {
    "hf": "a folder for Hugging Face: lightning-seg export hf --ckpt_path X --output DIR [--repo-id user/name]",
    "onnx": "an ONNX file: lightning-seg export onnx --ckpt_path X --output model.onnx",
    "program": "a torch.export program: lightning-seg export program --ckpt_path X --output model.pt2",
}


def main(args: list[str]) -> None:
    """``lightning-seg export <kind>``; each kind has a ``--help`` of its own."""
    if not args or args[0] in ("-h", "--help"):
        print(
            "\n".join(
                [
                    "lightning-seg export",
                    "",
                    *(f"  {name:10}{text}" for name, text in KINDS.items()),
                ]
            )
        )
    elif args[0] in KINDS:
        import_module(f"lightning_seg.export.{args[0]}").main(args[1:])
    else:
        raise unknown("kind of export", args[0], KINDS)
