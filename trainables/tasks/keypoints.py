"""Keypoints: the response map of a 2-d corner detector, as in Taskonomy (Zamir et al. 2018)."""

from trainables.tasks.regression import ResponseTask


class Keypoints(ResponseTask):
    """How much of a keypoint every pixel is: L1 loss; mean absolute error."""

    name = "keypoints"
