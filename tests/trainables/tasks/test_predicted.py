"""What is read off a network's output is what the metrics measure."""

import numpy as np
import pytest
import torch

from trainables.data.batch import IGNORE_LABEL
from trainables.pictures.maps import error_map
from trainables.registry.tasks import TASKS, Metric, TaskDescription
from trainables.tasks.depth import Depth
from trainables.tasks.measuring import predicted as module
from trainables.tasks.measuring.predicted import predicted
from trainables.tasks.normals import Normals
from trainables.tasks.segmentation import Segmentation

SIZE = (19, 23)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def values_task(kind: str, channels: int) -> TaskDescription:
    metric = Metric(name="own/error", unit="m", direction="minimize", description="")
    return TaskDescription(
        name="own",
        summary="",
        implementation="a:B",
        metrics=(metric,),
        primary="own/error",
        channels=channels,
        kind=kind,
    )


@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_errors_of_predictions_are_the_metrics(definition: str) -> None:
    labels = torch.randint(0, 5, (3, *SIZE), generator=torch.Generator().manual_seed(1))
    labels[:, :2] = IGNORE_LABEL
    accumulator = Segmentation(5).accumulator(definition, "cpu")
    logits = noise(3, 5, 4, 5)
    accumulator.update(logits, labels)
    ids = predicted(TASKS["segmentation"], logits, SIZE, definition)
    assert ids.dtype == np.uint8
    errors = error_map("labels", ids, labels.numpy().astype(np.uint8))
    accuracy = accumulator.compute()["segmentation/pixel_accuracy"]
    assert 1 - np.nanmean(errors) == pytest.approx(accuracy)

    truth = noise(3, 1, *SIZE).abs() + 0.1
    depth = Depth().accumulator(definition, "cpu")
    output = noise(3, 1, 4, 5)
    depth.update(output, truth)
    metres = predicted(TASKS["depth"], output, SIZE, definition)
    assert (metres.shape, metres.dtype) == ((3, *SIZE), np.float32)
    error = error_map("depth", metres[0], truth[0, 0].numpy())
    assert error.shape == SIZE
    everywhere = np.mean([np.abs(m - t) for m, t in zip(metres, truth[:, 0].numpy(), strict=True)])
    assert everywhere == pytest.approx(depth.compute()["depth/absolute_error"], rel=1e-5)


def test_angles_of_predictions_are_the_metric() -> None:
    truth = torch.nn.functional.normalize(noise(2, 3, *SIZE) + 0.5, dim=1)
    truth[:, :, 0] = torch.nan
    output = noise(2, 3, 4, 5)
    output[1] = 0  # a head that was pruned away
    normals = Normals().accumulator("corrected", "cpu")
    normals.update(output, truth)
    vectors = predicted(TASKS["normals"], output, SIZE, "corrected")
    assert vectors.shape == (2, *SIZE, 3)
    np.testing.assert_allclose(np.linalg.norm(vectors[0], axis=-1), 1, atol=1e-5)
    pairs = zip(vectors, truth.movedim(1, -1).numpy(), strict=True)
    mean = np.nanmean([error_map("vectors", ours, theirs) for ours, theirs in pairs])
    assert mean == pytest.approx(normals.compute()["normals/mean_error_deg"], rel=1e-4)


def test_a_large_picture_is_read_in_groups_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = noise(2, 40, 4, 5)
    logits[1, 7] = torch.nan
    whole = predicted(TASKS["segmentation"], logits, SIZE, "corrected")
    for group in (1, 3, 39):
        monkeypatch.setattr(module, "_VALUES_AT_ONCE", group * 2 * SIZE[0] * SIZE[1])
        grouped = predicted(TASKS["segmentation"], logits, SIZE, "corrected")
        assert (grouped == whole).all()
    assert (whole[1] == 7).all()


def test_own_tasks_of_other_shapes() -> None:
    many = predicted(values_task("labels", 300), noise(1, 300, 4, 5), SIZE, "corrected")
    assert (many.shape, many.dtype) == ((1, *SIZE), np.int16)
    assert many.max() > 255
    several = predicted(values_task("values", 2), noise(1, 2, 4, 5), SIZE, "corrected")
    assert several.shape == (1, *SIZE, 2)
    single = predicted(values_task("labels", 1), noise(1, 1, 4, 5), SIZE, "corrected")
    assert (single.shape, single.dtype) == ((1, *SIZE), np.float32)
