"""From batches to the score table: regions, native size, measures."""

import types

import numpy as np
import pytest
import torch
from scipy import ndimage

from lightning_seg.errors import InputError
from lightning_seg.evaluation import measures, per_image, statistic
from lightning_seg.evaluation.scoring import Scorer, Scoring
from lightning_seg.training.module import SegmentationModule


def batches(images=5, region=True, size=24):
    """Hand-made batches of two with probabilities; of each image a third is ignored and a third outside the field of view."""
    generator = np.random.default_rng(0)
    for start in range(0, images, 2):
        index = torch.arange(start, min(start + 2, images))
        shape = (len(index), 1, size, size)
        batch = {
            "index": index,
            "id": [f"i{i}" for i in index],
            "mask": torch.from_numpy((generator.random(shape) > 0.6).astype(np.uint8)),
        }
        if region:
            batch["region"] = (torch.arange(size) // (size // 3)).expand(shape).to(torch.uint8)
        yield batch, torch.from_numpy(generator.random(shape, dtype=np.float32))


def scored(parts, source=None, **settings):
    scorer = Scorer(["vessel"], Scoring(**settings))
    scorer.begin(torch.device("cpu"))
    for batch, probability in parts:
        scorer.add("test", probability, batch, torch.tensor(1.0), source)
    return scorer.finish("test", tuple(f"i{i}" for i in range(5)), {"i0": "p", "i1": "p"})


def loop(prediction, truth):
    return [
        (prediction & truth).sum(),
        (prediction & ~truth).sum(),
        (~prediction & truth).sum(),
        (~prediction & ~truth).sum(),
    ]


def test_ignored_pixels_are_in_no_count_and_those_outside_the_field_of_view_only_in_that_of_the_frame():
    found = scored(batches())
    table = found.table
    for batch, probability in batches():
        for i, mask, maps in zip(
            batch["index"], batch["mask"][:, 0].numpy() > 0, probability[:, 0].numpy(), strict=True
        ):
            assert table.counts[i, 0].tolist() == loop(maps[:, 8:] > 0.5, mask[:, 8:])
            assert table.fov_counts[i, 0].tolist() == loop(maps[:, 16:] > 0.5, mask[:, 16:])
    assert found.histogram.sum() == 5 * 24 * 16
    assert found.measured.roc.sum((1, 2, 3)).tolist() == [5 * 24 * 16, 5 * 24 * 8]
    frame, inside = (
        statistic([table], "vessel", "mcc", f"pooled{fov}").value for fov in ("", "_fov")
    )
    assert frame != inside
    assert table.groups == ("p", "p", "i2", "i3", "i4")


def test_data_without_a_field_of_view_have_one_set_of_counts():
    assert scored(batches(region=False)).table.fov_counts is None
    parts = [
        (batch | {"region": batch["region"] // 2 * 2}, maps) for batch, maps in batches()
    ]  # ignored or inside
    assert scored(parts).table.fov_counts is None


def test_the_loss_of_a_module_leaves_ignored_pixels_out():
    torch.manual_seed(0)
    module = SegmentationModule("unet", options={"widths": [4, 8]}, classes=["vessel"])
    batch, _ = next(batches())
    batch["image"] = torch.randint(0, 255, (2, 3, 24, 24), dtype=torch.uint8)
    output = module(batch["image"])
    found = module._loss(output, batch, "train")
    flipped = batch | {"mask": torch.where(batch["region"] > 0, batch["mask"], 1 - batch["mask"])}
    assert found == module._loss(output, flipped, "train")
    assert found != module._loss(
        output, {key: value for key, value in batch.items() if key != "region"}, "train"
    )


def test_measures_in_the_table_are_those_of_each_image():
    found = scored(batches())
    table = found.table
    assert list(table.measures) == list(measures.measure_names(tuple(measures.FAMILIES)))
    curves = []
    for batch, probability in batches():
        for i, mask, maps in zip(
            batch["index"], batch["mask"][:, 0].numpy() > 0, probability[:, 0].numpy(), strict=True
        ):
            expected = measures.measure(maps, mask, batch["region"][0, 0].numpy() > 0)
            assert {name: values[i, 0] for name, values in table.measures.items()} == pytest.approx(
                expected.values
            )
            assert table.components[i, 0] == expected.components
            np.testing.assert_allclose(table.calibration[i, 0], expected.calibration)
            curves.append(expected.curves)
    np.testing.assert_allclose(found.measured.curves[0], np.mean(curves, 0))


def test_a_measure_is_one_entry(monkeypatch):
    def excess(plane):
        return float(plane.prediction.sum() - plane.truth.sum())

    entry = measures.Measure("excess", "topology", excess)
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES, entry))
    table = scored(batches(region=False), families=("topology",)).table
    assert list(table.measures) == ["cldice", "excess"]
    counts = table.counts
    np.testing.assert_array_equal(table.measures["excess"], counts[..., 1] - counts[..., 2])


def test_families_that_were_not_asked_for_are_not_in_the_table():
    table = scored(batches(), families=("boundary",)).table
    assert list(table.measures) == ["hd95", "nsd"]
    with pytest.raises(InputError, match="holds no calibration sums"):
        statistic([table], "vessel", "ece", "pooled")  # not 0, which would be perfect
    assert not scored(batches(), families=()).table.measures


def test_scores_at_native_size_are_those_of_scaled_probabilities_against_the_mask_as_it_was_read():
    """Images of different sizes, scored one by one."""
    sizes = {f"i{i}": (30 + 7 * i, 44 + 3 * i) for i in range(5)}
    native = {
        id: np.random.default_rng(i).random((*size, 1)) > 0.5
        for i, (id, size) in enumerate(sizes.items())
    }

    def read(id):
        return types.SimpleNamespace(mask=native[id].astype(np.uint8), region=None)

    source = types.SimpleNamespace(read=read)
    settings = {"score_at": "native", "families": ("boundary",)}
    table = scored(batches(region=False), source, **settings).table
    for batch, probability in batches(region=False):
        for i, id, maps in zip(batch["index"], batch["id"], probability[:, 0].numpy(), strict=True):
            height, width = sizes[id]
            rows, columns = ((np.arange(n) + 0.5) * 24 / n - 0.5 for n in (height, width))
            grid = np.meshgrid(np.clip(rows, 0, 23), np.clip(columns, 0, 23), indexing="ij")
            scaled = ndimage.map_coordinates(maps.astype(np.float64), grid, order=1)
            expected = loop(scaled > 0.5, native[id][..., 0])
            assert np.abs(table.counts[i, 0] - expected).max() <= 1  # a pixel at .5 to the last bit
            assert table.counts[i, 0].sum() == height * width
    at_network = scored(batches(region=False), families=()).table
    assert not np.allclose(
        per_image(at_network.of("vessel"), "dice"), per_image(table.of("vessel"), "dice")
    )


def test_the_threshold_cuts_what_is_counted_and_what_is_measured():
    table = scored(batches(region=False), families=("boundary",), threshold=0.8).table
    for batch, probability in batches(region=False):
        for i, mask, maps in zip(batch["index"], batch["mask"], probability, strict=True):
            truth = mask[0].numpy() > 0
            assert table.counts[i, 0].tolist() == loop(maps[0].numpy() > 0.8, truth)
            expected = measures.measure(
                maps[0].numpy(), truth, prediction=maps[0].numpy() > 0.8
            ).values["nsd"]
            assert table.measures["nsd"][i, 0] == expected
    with pytest.raises(InputError, match="give a probability between 0 and 1"):
        Scoring(threshold=1.0)


def test_a_label_says_what_else_than_one_network_is_scored(tmp_path):
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"weights")
    assert Scoring().label == ""
    scoring = Scoring(tta="flips", postprocess="fill_holes", threshold=0.4, ensemble=(str(other),))
    assert scoring.label.startswith("tta=flips-ensemble=2-")
    assert scoring.label.endswith("-threshold=0.4-post=fill_holes")


def test_what_is_predicted_is_what_is_scored():
    module = SegmentationModule("unet", options={"widths": [4, 8]}, classes=["vessel"]).eval()
    batch = {"image": torch.randint(0, 255, (2, 3, 24, 24), dtype=torch.uint8)}
    with torch.inference_mode():
        probability = module.probabilities(batch["image"])
        assert torch.equal(probability, module.predict_step(batch, 0))
        assert torch.equal(probability, module(batch["image"]).logits.sigmoid())
