"""Allocations by hand, from the formulas: ERK (Evci et al. 2020), ER (Mocanu et al. 2018)."""

from trainables.sparsity.allocation import allocate

# Sizes 4·3·3·3 = 108, 8·4·3·3 = 288, 2·8 = 16; 412 in all.
SHAPES = {"a": (4, 3, 3, 3), "b": (8, 4, 3, 3), "c": (2, 8)}


def test_erk() -> None:
    # density ∝ Σ shape / ∏ shape, so kept ∝ Σ shape = 13, 18, 10, of 41.
    # 20 kept: 20·13/41 = 6.34, 20·18/41 = 8.78, 20·10/41 = 4.88; the floors 6, 8, 4 leave two
    # for the largest remainders, .88 and .78.
    assert allocate("erk", SHAPES, 20) == {"a": 6, "b": 9, "c": 5}


def test_erk_caps_a_layer_that_would_be_more_than_dense() -> None:
    # 100 kept: c would get 100·10/41 = 24.4 of its 16, so it is dense. The other 84 split as
    # 13 : 18: 84·13/31 = 35.2 and 84·18/31 = 48.8.
    assert allocate("erk", SHAPES, 100) == {"a": 35, "b": 49, "c": 16}


def test_erk_caps_again_when_the_rest_overflows_the_next_layer() -> None:
    # 300 kept: c gets 300·10/41 = 73 > 16, dense. Of 284, a gets 284·13/31 = 119.1 > 108: dense
    # as well. b takes the other 176 of its 288.
    assert allocate("erk", SHAPES, 300) == {"a": 108, "b": 176, "c": 16}


def test_er_ignores_the_sides_of_the_kernel() -> None:
    # density ∝ (out + in) / (out · in), so kept ∝ (out + in) · kernel = 7·9 = 63, 12·9 = 108 and
    # 10·1 = 10, of 181. 50 kept: 17.40, 29.83, 2.76; the floors 17, 29, 2 leave two.
    assert allocate("er", SHAPES, 50) == {"a": 17, "b": 30, "c": 3}


def test_uniform_and_ties_go_to_the_earlier_layer() -> None:
    # Half of 3, 3 and 4: 1.5, 1.5, 2. One is left, and the remainders are equal.
    shapes = {"a": (3, 1), "b": (3, 1), "c": (4, 1)}
    assert allocate("uniform", shapes, 5) == {"a": 2, "b": 1, "c": 2}
