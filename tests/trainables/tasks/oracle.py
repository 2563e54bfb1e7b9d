"""The metrics once more, in plain loops over pixels: what the accumulators are checked against.

float64 NumPy scalars, one image after the other, everything kept until the end. "published"
follows the procedure of the released DiSparse evaluation (`evaluation.py`, itself AdaShare's) on
the files it reads: labels with 255 or, on Cityscapes, -1 for unlabelled; normals as 8-bit images
with their channels in the order blue, green, red, or on Taskonomy mapped to [-1, 1] from red,
green, blue.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Images = Sequence[np.ndarray]  # of one split: (C, h, w) predictions or (C, H, W) and (H, W) targets


def upsampled(prediction: np.ndarray, height: int, width: int, definition: str) -> np.ndarray:
    """(C, h, w) → (C, H, W): the nearest cell as published, else between half-pixel centres."""
    channels, h, w = prediction.shape
    out = np.empty((channels, height, width))
    for i in range(height):
        for j in range(width):
            if definition == "published":
                # In float32, as there: which cell is nearest may hang on the last bit.
                row = int(np.float32(i) * (np.float32(h) / np.float32(height)))
                column = int(np.float32(j) * (np.float32(w) / np.float32(width)))
                out[:, i, j] = prediction[:, min(row, h - 1), min(column, w - 1)]
                continue
            y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = y - top, x - left
            upper = (1 - b) * prediction[:, top, left] + b * prediction[:, top, right]
            lower = (1 - b) * prediction[:, bottom, left] + b * prediction[:, bottom, right]
            out[:, i, j] = (1 - a) * upper + a * lower
    return out


def pixels(prediction: np.ndarray, target: np.ndarray, definition: str) -> Iterator[tuple]:
    """(prediction, target) of each pixel of one image, at the target's size."""
    height, width = target.shape[-2:]
    full = upsampled(prediction.astype(np.float64), height, width, definition)
    for i in range(height):
        for j in range(width):
            yield full[:, i, j], target[..., i, j]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def overall(values_by_image: Sequence[Sequence[float]], definition: str) -> float:
    """The mean over all pixels; as published, of images' means (its batches have one image)."""
    if definition == "published":
        return mean([mean(values) for values in values_by_image if values])
    return mean([value for values in values_by_image for value in values])


def segmentation(
    predictions: Images, targets: Images, definition: str, dataset: str | None = None
) -> dict[str, float]:
    num_classes = predictions[0].shape[0]
    unlabelled = -1 if dataset == "cityscapes" else 255
    matrix = [[0] * num_classes for _ in range(num_classes)]
    rights: list[list[float]] = []
    errors: list[list[float]] = []
    for logits, labels in zip(predictions, targets, strict=True):
        stored = np.where(labels == 255, unlabelled, labels)
        right, error = [], []
        for scores, label in pixels(logits, stored, definition):
            guess = max(range(num_classes), key=lambda c: scores[c])
            label = int(label)
            if definition == "published":
                if label < num_classes:  # -1 gets through
                    right.append(float(guess == label))
            elif label != unlabelled:
                right.append(float(guess == label))
            if label == unlabelled:  # not in the confusion matrix, not in the cross-entropy
                continue
            matrix[label][guess] += 1
            error.append(math.log(sum(math.exp(s) for s in scores)) - scores[label])
        rights.append(right)
        errors.append(error)
    ious = []
    for c in range(num_classes):
        hits = matrix[c][c]
        union = sum(matrix[c]) + sum(row[c] for row in matrix) - hits
        if hits > 0 or (definition == "corrected" and union > 0):
            ious.append(hits / union)
    return {
        "miou": mean(ious),
        "pixel_accuracy": overall(rights, definition),
        "error": overall(errors, definition),
    }


def angle_deg(first: Sequence[float], second: Sequence[float]) -> float:
    lengths = math.hypot(*first) * math.hypot(*second)
    if lengths == 0:
        return 90.0
    dot = sum(a * b for a, b in zip(first, second, strict=True)) / lengths
    return math.degrees(math.acos(min(1.0, max(-1.0, dot))))


def bgr(normal: Sequence[float]) -> list[float]:
    """The colour of a camera-frame normal (x, y, z): red x, green z, blue -y."""
    x, y, z = normal
    return [127.5 * (1 - y), 127.5 * (1 + z), 127.5 * (1 + x)]


def taskonomy_normal(normal: Sequence[float]) -> list[float]:
    """What the loader makes of the file's red, green and blue: right, down, towards the camera.
    A hole is grey there. Rounding to bytes is left out: targets that were read went through it."""
    if np.isnan(normal).any():
        return [2 * 128 / 255 - 1] * 3
    x, y, z = normal
    return [x, y, -z]


def normals(
    predictions: Images, targets: Images, definition: str, dataset: str | None = None
) -> dict[str, float]:
    angles = []
    for prediction, target in zip(predictions, targets, strict=True):
        for guess, truth in pixels(prediction, target, definition):
            if definition == "published" and dataset == "taskonomy":
                angles.append(angle_deg(taskonomy_normal(guess), taskonomy_normal(truth)))
                continue
            if np.isnan(truth).any():
                continue
            if definition == "published":
                stored = [round(channel) for channel in bgr(truth)]
                if max(stored) == 255:
                    continue
                length = math.hypot(*guess)
                angles.append(angle_deg(bgr([g / length for g in guess]), stored))
            else:
                angles.append(angle_deg(guess, truth))

    def share(limit: float) -> float:
        if definition == "published":
            return mean([float(angle <= limit) for angle in angles])
        return mean([float(angle < limit) for angle in angles])

    return {
        "mean_error_deg": mean(angles),
        "median_error_deg": float(np.median(angles)) if angles else math.nan,
        "within_11_25": share(11.25),
        "within_22_5": share(22.5),
        "within_30": share(30.0),
    }


def depth(
    predictions: Images, targets: Images, definition: str, dataset: str | None = None
) -> dict[str, float]:
    # The published disparity of a pixel p is p / 65535; ours is (p - 1) / 65535.
    step = 1 / 65535 if (definition, dataset) == ("published", "cityscapes") else 0.0
    absolute: list[list[float]] = []
    relative: list[list[float]] = []
    ratios = []
    for prediction, target in zip(predictions, targets, strict=True):
        absolute.append([])
        relative.append([])
        for (guess,), (truth,) in pixels(prediction, target, definition):
            if math.isnan(truth):
                continue
            guess, truth = guess + step, truth + step
            absolute[-1].append(abs(guess - truth))
            relative[-1].append(abs(guess - truth) / truth)
            if guess == 0 or (guess < 0 and definition == "corrected"):
                ratios.append(math.inf)
            else:
                ratios.append(max(guess / truth, truth / guess))

    def share(limit: float) -> float:
        if definition == "published":
            return mean([float(ratio <= limit) for ratio in ratios])
        return mean([float(ratio < limit) for ratio in ratios])

    return {
        "absolute_error": overall(absolute, definition),
        "relative_error": overall(relative, definition),
        "within_1_25": share(1.25),
        "within_1_25_squared": share(1.25**2),
        "within_1_25_cubed": share(1.25**3),
    }


def response(predictions: Images, targets: Images, definition: str) -> dict[str, float]:
    errors = [
        [
            abs(guess - truth)
            for (guess,), (truth,) in pixels(prediction, target, definition)
            if not math.isnan(truth)
        ]
        for prediction, target in zip(predictions, targets, strict=True)
    ]
    return {"error": overall(errors, definition)}


ORACLES: Mapping[str, Callable[..., dict[str, float]]] = {
    "segmentation": segmentation,
    "normals": normals,
    "depth": depth,
    "keypoints": response,
    "edges": response,
}
