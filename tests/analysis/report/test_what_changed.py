"""What the end of `search confirm` says: what is taken now, and what was before fresh seeds."""

from collections.abc import Callable

from analysis.studies.trials import load_study
from analysis.tables import plain_choices, plain_words
from tests.analysis.built_studies import BuiltStudy, Row, confirming, simple_row

MIOU = "val/segmentation/miou"
TASKS = ("segmentation", "normals")
LOSS = "At most 5 % loss on every task"
Record = Callable[..., BuiltStudy]


def said(record: Record, rows: list[Row], fresh: list[dict[int, float]]) -> list[str]:
    """Return the lines of a study; fresh: at each seed, the mIoU of the trials by number."""
    made = list(rows)
    for place, values in enumerate(fresh):
        for row in rows:
            if row.number in values:
                made.append(confirming(row, len(made), 900 + place, 0.0))
                made[-1].metrics[MIOU] = values[row.number]
    built = record("demo", made, tasks=TASKS)
    return plain_words.summary(plain_choices.choices(load_study("demo", built.storage)))


def two(sparse: float = 0.49) -> list[Row]:
    return [simple_row(0, "dense", 1.0, 0.50, 16.0), simple_row(1, "snip", 0.4, sparse, 16.0)]


def test_what_stays_is_said_to_stay(record: Record) -> None:
    lines = said(record, two(), [{0: 0.50, 1: 0.49}, {0: 0.52, 1: 0.51}])
    assert f"{LOSS}: demo-00001. As before fresh seeds." in lines


def test_another_model_is_named_with_its_cost(record: Record) -> None:
    lines = said(record, two(), [{0: 0.50, 1: 0.40}, {0: 0.52, 1: 0.44}])
    assert f"{LOSS}: demo-00000, the dense model. Before fresh seeds it was demo-00001 " in "".join(
        lines
    )
    # Losses of 0.1 of 0.51, and of 0.08: 17.6 % on average.
    assert "(density 40 %); at fresh seeds that is 17.7 % worse in segmentation." in "".join(lines)


def test_none_before_is_not_as_before(record: Record) -> None:
    rows = two(sparse=0.45)
    rows[0].status = "infeasible"  # a reference, on no front
    lines = said(record, rows, [{0: 0.50, 1: 0.50}, {0: 0.52, 1: 0.52}])
    assert f"{LOSS}: demo-00001. Before fresh seeds no model met it." in lines


def test_none_now_names_what_it_was(record: Record) -> None:
    rows = two()
    rows[0].status = "infeasible"
    lines = said(record, rows, [{0: 0.50, 1: 0.40}, {0: 0.52, 1: 0.44}])
    assert any(
        line.startswith(f"{LOSS}: none. Before fresh seeds it was demo-00001") for line in lines
    )


def test_doubts_are_said_too(record: Record) -> None:
    lines = said(record, two(), [{0: 0.50, 1: 0.50}, {0: 0.50, 1: 0.46}])
    (line,) = [line for line in lines if line.startswith(LOSS)]
    # Losses of 0 and 8 %: t of one degree of freedom is 12.706, so up to 4 + 12.706 * 4.
    assert "The loss may be higher: up to 54.9 % in segmentation (95 % interval)." in line


def test_where_fresh_seeds_do_not_choose_that_comes_first(record: Record) -> None:
    lines = said(record, two(), [{1: 0.40}, {1: 0.44}])  # the dense model has none
    assert lines[0] == (
        "Values at selection decide: not all of the front, and the dense model, ended at 2 fresh "
        "seeds."
    )
    (line,) = [line for line in lines if line.startswith(LOSS)]
    assert line.startswith(f"{LOSS}: demo-00001. At fresh seeds it loses more than 5 %: ")
    assert plain_words.summary(()) == []


def test_a_confirmation_that_has_not_ended_is_a_note(record: Record) -> None:
    going = record("going", two(), tasks=TASKS, facts={"confirm": 3})
    (note,) = load_study("going", going.storage).notes
    assert note.startswith("confirmations of going are under way or were interrupted, so what")
    assert f"search resume going --storage {going.storage}`" in note
    over = record("over", two(), tasks=TASKS, facts={"confirm": None})
    assert load_study("over", over.storage).notes == ()
