"""SET's drop and grow by hand (Mocanu et al. 2018): one layer of 8, 2 tasks.

8 -7 6 -5 stand at places 0–3, nothing at 4–7; heads are 1×1.
"""

from collections import Counter

import pytest
import torch

from tests.trainables.sparsity.toys import Toy
from tests.worked.networks import example, network, row_of, worked_toy
from trainables.data.batch import Batch
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.method import MethodContext
from trainables.sparsity.methods.rigl import Set
from trainables.sparsity.saliency import Scores

BATCH = example([0, 0, 0, 0, 1000, 0, 0, 0], {"a": 1.0, "b": 1.0})


def set_toy(seed: int = 0) -> Toy:
    toy = worked_toy(network([[8, -7, 6, -5, 0, 0, 0, 0]], {"a": [1], "b": [1]}), seed=seed)
    keep = toy.registry.keep()
    keep["shared.weight"][0, 4:] = False
    toy.registry.update(keep, None)
    return toy


class Drawn(Set):
    """SET whose draw is on the page."""

    def __init__(self, draw: list[float]) -> None:
        self.draw = torch.tensor([draw])

    def growth_scores(self, context: MethodContext, batch: Batch) -> Scores:
        head = torch.ones(1, 1)
        return {"shared.weight": self.draw, "heads.a.weight": head, "heads.b.weight": head}


@pytest.mark.parametrize(
    ("draw", "fraction", "kept"),
    [
        # ⌊.5 · 4⌋ = 2 smallest |w| go, the 5 and the 6 at places 3 and 2; of the inactive places
        # 2–7 the two highest draws are grown. Survivors are not drawn for, however high.
        ([0.99, 0.98, 0.1, 0.2, 0.3, 0.9, 0.4, 0.8], 0.5, [0, 1, 5, 7]),
        ([0.99, 0.98, 0.1, 0.95, 0.3, 0.9, 0.4, 0.8], 0.5, [0, 1, 3, 5]),  # 3 dropped and regrown
        ([0.99, 0.98, 0.1, 0.2, 0.3, 0.9, 0.4, 0.8], 0.4, [0, 1, 2, 5]),  # ⌊.4 · 4⌋ = ⌊1.6⌋ = 1
        ([0.99, 0.98, 0.1, 0.2, 0.3, 0.9, 0.4, 0.8], 0.0, [0, 1, 2, 3]),
    ],
)
def test_drop_and_grow(draw: list[float], fraction: float, kept: list[int]) -> None:
    toy = set_toy()
    masks = Drawn(draw).regrow(toy.context, BATCH, fraction, 6 / 10).masks
    assert row_of(masks["shared.weight"]) == kept
    toy.registry.update(masks, None)
    now = toy.registry.parameters["shared.weight"][0].tolist()
    assert now == [w if i in kept else 0 for i, w in enumerate([8, -7, 6, -5, 0, 0, 0, 0])]


def test_every_inactive_place_is_as_likely_as_any_other() -> None:
    # The gradient at place 4 is 2000 and has no say. Two of six places in each of 300 updates:
    # 100 times each, with a standard deviation of √(300 · 1/3 · 2/3) = 8.2; five of them are 41.
    grown: Counter[int] = Counter()
    for seed in range(300):
        masks = METHODS["set"].regrow(set_toy(seed).context, BATCH, 0.5, 6 / 10).masks
        places = row_of(masks["shared.weight"])
        assert places[:2] == [0, 1]
        assert len(places) == 4
        grown.update(places[2:])
    assert set(grown) == {2, 3, 4, 5, 6, 7}
    assert all(abs(count - 100) <= 41 for count in grown.values())
