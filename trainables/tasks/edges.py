"""Edges: the response map of a 2-d edge detector, as in Taskonomy (Zamir et al. 2018)."""

from trainables.tasks.regression import ResponseTask


class Edges(ResponseTask):
    """How much of an edge every pixel is: L1 loss; mean absolute error."""

    name = "edges"
