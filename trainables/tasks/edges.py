"""Defines edges: the response map of a 2-d edge detector, as in Taskonomy (Zamir et al. 2018)."""

from trainables.tasks.regression import ResponseTask


class Edges(ResponseTask):
    """Predicts the edge response at every pixel: L1 loss; mean absolute error."""

    name = "edges"
