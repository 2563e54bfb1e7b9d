"""Shares are read as they are meant."""

import pytest

from trainables.checks import parse_share
from trainables.errors import UserError


@pytest.mark.parametrize(
    ("text", "share"),
    [("0.9", 0.9), ("90%", 0.9), (" 99.9 % ", 0.999), ("56.3%", 0.563), ("1e-1", 0.1)],
)
def test_a_share_may_be_a_percentage(text: str, share: float) -> None:
    assert parse_share(text, "--sparsity") == share


@pytest.mark.parametrize("text", ["", "%", "much", "5 percent"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="`--sparsity` must be a share of one, such as"):
        parse_share(text, "--sparsity")
