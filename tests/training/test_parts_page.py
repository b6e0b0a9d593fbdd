"""The parts by themselves: the code of docs/parts.md, and batches that are not as it says."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_seg.errors import InputError
from lightning_seg.training.module import SegmentationModule
from lightning_seg.training.plain_loaders import check_batch

PAGE = Path(__file__).parents[2] / "docs" / "parts.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S))
    names: dict[str, Any] = {"__name__": "parts"}
    exec(code, names)
    assert names["other"].global_step == 2
    # what validation logged is the pooled Dice of the network that was saved
    again, squares = names["again"], names["Squares"]()
    overlap = total = 0.0
    with torch.no_grad():
        for number in range(len(squares)):
            sample = squares[number]
            found = again(sample["image"][None]).logits[0] > 0
            overlap += float((found * sample["mask"]).sum())
            total += float(found.sum() + sample["mask"].sum())
    logged = float(names["trainer"].callback_metrics["val/dice"])
    assert logged > 0.1  # else the next line would compare nothing
    assert logged == pytest.approx(2 * overlap / total, abs=1e-5)


def batch(**changes: Any) -> dict[str, Any]:
    return {"image": torch.rand(2, 3, 16, 16), "mask": torch.zeros(2, 1, 16, 16)} | changes


WRONG = {
    "is a list": [torch.rand(2, 3, 16, 16)],
    r"no mask": {"image": torch.rand(2, 3, 16, 16)},
    "ndarray as image": batch(image=torch.rand(2, 3, 16, 16).numpy()),
    r"image of shape \(2, 1, 16, 16\), where 3 channels": batch(image=torch.rand(2, 1, 16, 16)),
    r"mask of shape \(2, 16, 16\)": batch(mask=torch.zeros(2, 16, 16)),
    r"but mask of \(2, 1, 8, 8\)": batch(mask=torch.zeros(2, 1, 8, 8)),
    "image of torch.int64": batch(image=torch.ones(2, 3, 16, 16, dtype=torch.int64)),
    "values from -1 to 1": batch(image=torch.linspace(-1, 1, 1536).reshape(2, 3, 16, 16)),
    "mask with the value 255": batch(mask=torch.full((2, 1, 16, 16), 255)),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_batch_that_breaks_the_contract_is_refused_with_what_is_wrong(sentence: str) -> None:
    with pytest.raises(InputError, match=rf"{sentence}.*; a batch is \{{"):
        check_batch(WRONG[sentence], 1, 3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32, torch.int64])
def test_masks_of_any_number_type_are_taken(dtype: torch.dtype) -> None:
    check_batch(batch(mask=torch.ones(2, 1, 16, 16).to(dtype)), 1, 3)
    check_batch(batch(image=torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)), 1, 3)


def test_training_stops_at_the_first_bad_batch() -> None:
    samples = [{"image": torch.rand(3, 16, 16), "mask": torch.full((1, 16, 16), 255)}] * 2
    module = SegmentationModule("unet", options={"widths": [4, 8]})
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False
    )
    with pytest.raises(InputError, match="mask with the value 255"):
        trainer.fit(module, DataLoader(samples, batch_size=2))
