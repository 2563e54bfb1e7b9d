"""Run by the Python of NePS's own environment, never imported: PriMO behind JSON lines.

A line in, a line out. The first line in describes the search, see `_build`; then come
`{"ask": true}` and `{"tell": id, "values": [...]}`. Every line out has `seconds`, what this process
took of the processor since it was ready; an ask is answered with `id`, `previous` (the id that the
same trial had at a lower fidelity, or null), `params` and `until`, the fidelity to train to.

Of NePS its public names alone are used: `AskAndTell`, `SearchSpace`, `HPOFloat`, `HPOInteger`,
`HPOCategorical`, `algorithms.primo`, and PriMO's attribute `scalarization_weights`.
"""

import json
import os
import random
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

_FIDELITY = "_epochs"  # no parameter of a space is called that


def main() -> None:
    """Answer until the input ends."""
    warnings.simplefilter("ignore")  # those of its libraries on what they will change
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    optimizer, search = _build(json.loads(sys.stdin.readline()))
    begun = time.process_time()
    answer: dict[str, Any] = {"ready": True}
    while True:
        seconds = time.process_time() - begun
        print(json.dumps({**answer, "seconds": seconds}), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        asked = json.loads(line)
        if "tell" in asked:
            search.tell(asked["tell"], {"objective_to_minimize": asked["values"]})
            answer = {}
        else:
            # "Through random weight resampling", NePS's documentation says; the code draws them
            # where there are none, and then keeps them.
            optimizer.scalarization_weights = None
            answer = _described(search.ask())


def _build(described: Mapping[str, Any]) -> tuple[Any, Any]:
    """PriMO, and it behind NePS's interface to ask and tell.

    described: `seed`; `epochs`, of a full-length trial, of which 1 is the least; `parameters`
    with `name`, `kind`, and `choices` or `low`, `high`, `log`.
    """
    import neps
    import numpy as np
    import torch

    torch.set_num_threads(1)
    random.seed(described["seed"])
    np.random.seed(described["seed"])
    torch.manual_seed(described["seed"])
    elements: dict[str, Any] = {}
    for given in described["parameters"]:
        if given["kind"] == "categorical":
            elements[given["name"]] = neps.HPOCategorical(given["choices"])
        else:
            number = {"float": neps.HPOFloat, "int": neps.HPOInteger}[given["kind"]]
            elements[given["name"]] = number(given["low"], given["high"], log=given["log"])
    elements[_FIDELITY] = neps.HPOInteger(1, described["epochs"], is_fidelity=True)
    # No priors, as `neps.run` has it where none are given; all else is PriMO's default.
    optimizer = neps.algorithms.primo(neps.SearchSpace(elements), prior_centers={})
    return optimizer, neps.AskAndTell(optimizer)


def _described(trial: Any) -> dict[str, Any]:
    params = {name: _plain(value) for name, value in trial.config.items()}
    until = params.pop(_FIDELITY)
    previous = trial.metadata.previous_trial_id
    return {"id": trial.metadata.id, "previous": previous, "params": params, "until": until}


def _plain(value: Any) -> Any:
    """A value of NumPy's as one of Python's."""
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    main()
