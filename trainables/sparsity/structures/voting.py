"""Settles a vote: tasks rank what they see, and an arbiter decides on what they share.

DiSparse: Disentangled Sparsification for Multitask Model Compression, Sun et al., CVPR 2022.

The count is made exact as follows. Task k ranks the n_k weights of Θ_s ∪ Θ_k by its own scores.
The weight of rank r (1 = best) *enters* k's vote at ρ = r / n_k, because the vote B_k(ρ) is the
top ρ·n_k. A private weight is kept from its entry on. A shared weight is kept from the j-th
smallest of its T entries on, where j is the number of votes the arbiter requires. So every weight
has one entry ρ, the number kept is monotone in ρ, and bisecting ρ for a count K is the same as
taking the K smallest entries: one sort per task and one selection, O(n log n).
At the ρ where the K-th enters, at most T weights enter together (each task's ranks are
distinct). If not all of them fit, the seeded order decides among them. The published code
instead tunes ρ by hand for every data set and ratio.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainables.errors import unknown_name
from trainables.sparsity.proposal import Masks, Proposal, Scores
from trainables.sparsity.selection import (
    TieOrder,
    kth_smallest,
    order_keys,
    place_of,
    sort_descending,
)


def votes_required(arbiter: str, num_tasks: int) -> int:
    """Return how many of the tasks that a weight serves must vote to keep it for it to be kept.

    Tasks vote on *pruning*. unanimous (DiSparse, Sun et al. 2022, and all of its released code):
    pruned only if all prune, so one keep is enough. The paper allows any element-wise function of
    the votes as arbiter, and two more are ours. majority: pruned if more than half prune, so a tie
    keeps (with two tasks this equals unanimous). intersection: kept only if all keep.
    """
    required = {"unanimous": 1, "majority": (num_tasks + 1) // 2, "intersection": num_tasks}
    if arbiter not in required:
        raise unknown_name("arbiter", arbiter, required)
    return required[arbiter]


def settle(
    names: Sequence[str],
    scores: Mapping[str, Scores],
    within: Masks,
    count: int,
    arbiter: str,
    ties: TieOrder,
) -> Proposal:
    """Return the masks of `names` that keep exactly `count` weights, with the tasks' votes.

    scores: by task, then by name, higher is better; finite. A task scores the tensors that serve
      it; those alone vote on a tensor, and the arbiter counts them.
    within: by name, bool; weights outside are never kept. They still count in n_k, so ρ remains
      a fraction of all weights that the task sees.
    """
    sizes = {name: within[name].numel() for name in names}
    offsets, total = {}, 0
    for name in names:
        offsets[name], total = total, total + sizes[name]
    device = within[names[0]].device
    required = votes_required(arbiter, len(scores))
    # If one vote is enough, the `count` best of any task fill the budget alone, so no task's
    # later ranks matter. At 90 % sparsity this avoids most of the sorting.
    limit = count if required == 1 else None
    entries: dict[str, Tensor] = {}
    for task, task_scores in scores.items():
        visible = [name for name in names if name in task_scores]
        if visible:
            entries[task] = _entries(visible, task_scores, within, offsets, total, ties, limit)
    entry = torch.full((total,), torch.inf, dtype=torch.float64, device=device)
    for task_entry in entries.values():
        torch.minimum(entry, task_entry, out=entry)
    if required > 1:
        for name in names:
            seers = [entry for task, entry in entries.items() if name in scores[task]]
            needed = votes_required(arbiter, len(seers))
            if needed > 1:
                part = slice(offsets[name], offsets[name] + sizes[name])
                ballots = torch.stack([seer[part] for seer in seers])
                entry[part] = ballots.sort(dim=0).values[needed - 1]
    enter = first_to_enter_unseen if entry.is_cuda else first_to_enter
    kept, last = enter(entry, count, ties, len(entries))

    def by_name(flat: Tensor, chosen: Sequence[str]) -> Masks:
        return {
            n: flat[offsets[n] : offsets[n] + sizes[n]].reshape(within[n].shape) for n in chosen
        }

    votes = {
        task: by_name(e <= last, [n for n in names if n in scores[task]])
        for task, e in entries.items()
    }
    return Proposal(masks=by_name(kept, names), votes=votes)


def _entries(
    visible: Sequence[str],
    scores: Scores,
    within: Masks,
    offsets: Mapping[str, int],
    total: int,
    ties: TieOrder,
    limit: int | None,
) -> Tensor:
    """Return rank / n_k of one task up to rank `limit`, float64 (total,).

    It is infinite beyond the limit and for weights that the task does not see or may not keep.
    """
    keys = []
    for name in visible:
        score = scores[name].masked_fill(~within[name], -torch.inf).reshape(-1)
        start = offsets[name]
        index = torch.arange(start, start + score.numel(), device=score.device)
        keys.append(order_keys(score, ties, index))
    num_visible = sum(key.numel() for key in keys)
    index = ties.index(place_of(sort_descending(torch.cat(keys), limit)))
    entry = torch.full((total,), torch.inf, dtype=torch.float64, device=index.device)
    ranks = torch.arange(1, index.numel() + 1, dtype=torch.float64, device=index.device)
    entry[index] = ranks / num_visible
    for name in visible:
        part = entry[offsets[name] : offsets[name] + within[name].numel()]
        part.masked_fill_(~within[name].reshape(-1), torch.inf)
    return entry


def first_to_enter(
    entry: Tensor, count: int, ties: TieOrder, num_tasks: int
) -> tuple[Tensor, Tensor]:
    """Return the `count` smallest entries as bool, and the entry ρ of the last of them.

    num_tasks: at most as many weights share a finite entry.
    """
    if count == 0:
        return torch.zeros_like(entry, dtype=torch.bool), entry.new_zeros(())
    entered = entry[entry < torch.inf]  # far fewer, and NumPy's selection is slow on equal values
    assert count <= entered.numel(), "fewer weights lie within the masks than are to be kept"
    last = kth_smallest(entered, count - 1)
    kept = entry < last
    boundary = (entry == last).nonzero().reshape(-1)
    room = count - int(kept.count_nonzero())
    assert room <= len(boundary) <= num_tasks
    kept[boundary[ties.place(boundary).argsort(descending=True)[:room]]] = True
    return kept, last


def first_to_enter_unseen(
    entry: Tensor, count: int, ties: TieOrder, num_tasks: int
) -> tuple[Tensor, Tensor]:
    """Return what `first_to_enter` returns, without a value that the host would wait for."""
    if count == 0:
        return torch.zeros_like(entry, dtype=torch.bool), entry.new_zeros(())
    last = kth_smallest(entry, count - 1)
    kept = entry < last
    index = torch.arange(entry.numel(), device=entry.device)
    places = torch.where(entry == last, ties.place(index), -1)
    best = places.topk(min(num_tasks, entry.numel())).values
    room = count - kept.sum()
    lowest = best.gather(0, (room - 1).reshape(1))
    return kept | ((entry == last) & (places >= lowest)), last
