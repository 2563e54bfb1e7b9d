"""Defines keypoints: the response map of a 2-d corner detector (Taskonomy, Zamir et al. 2018)."""

from trainables.tasks.regression import ResponseTask


class Keypoints(ResponseTask):
    """Predicts the keypoint response at every pixel: L1 loss; mean absolute error."""

    name = "keypoints"
