"""Invariants of DESIGN §7: what is pruned stays exactly zero, whatever the optimiser does."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.sparsity.toys import LinearNetwork, ToyNetwork, random_batch
from trainables.errors import UserError
from trainables.sparsity.masking.enforce import MOMENTS
from trainables.sparsity.masking.masks import Mask, MaskRegistry

Optimiser = torch.optim.Optimizer
OPTIMISERS: dict[str, Callable[[object], Optimiser]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "sgd-nesterov": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adam-amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
}


def random_keep(registry: MaskRegistry, seed: int, density: float = 0.3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        n: torch.rand(w.shape, generator=generator) < density
        for n, w in registry.parameters.items()
    }


def train_step(
    model: nn.Module,
    registry: MaskRegistry,
    optimiser: Optimiser,
    step: int,
    *,
    bf16: bool = False,
    forward: Callable[..., dict[str, Tensor]] | None = None,
) -> None:
    batch = random_batch(step, model.tasks)
    optimiser.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        predictions = (model if forward is None else forward)(batch.images_BCHW)
    loss = sum((predictions[t].float() - batch.targets[t]).square().mean() for t in model.tasks)
    loss.backward()
    registry.apply_to_gradients()
    optimiser.step()


def assert_zero_where_pruned(registry: MaskRegistry, optimiser: Optimiser) -> None:
    for name, weight in registry.parameters.items():
        pruned = registry.masks[name] == 0
        assert torch.count_nonzero(weight[pruned]) == 0, name
        if weight.grad is not None:
            assert torch.count_nonzero(weight.grad[pruned]) == 0, name
        for moment in MOMENTS[type(optimiser)]:
            value = optimiser.state[weight].get(moment)
            if value is not None:
                assert torch.count_nonzero(value[pruned]) == 0, (name, moment)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_pruned_stays_zero_through_steps_and_updates(
    name: str, channels_last: bool, bf16: bool
) -> None:
    model = ToyNetwork()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    registry = MaskRegistry(model)
    optimiser = OPTIMISERS[name](model.parameters())
    registry.attach(optimiser)
    train_step(model, registry, optimiser, 0, bf16=bf16)  # dense, so all moments are alive
    for level in range(3):
        registry.update(random_keep(registry, seed=level), optimiser)
        assert_zero_where_pruned(registry, optimiser)
        for step in range(3):
            train_step(model, registry, optimiser, 10 * level + step, bf16=bf16)
            assert_zero_where_pruned(registry, optimiser)
    alive = torch.cat([w.flatten() for w in registry.parameters.values()]).count_nonzero()
    # What is kept does train, but for weights that grew where no gradient flows yet.
    assert registry.kept / 2 < alive <= registry.kept


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_update_keeps_stayers_and_zeroes_grown_and_dropped(name: str) -> None:
    model = ToyNetwork()
    registry = MaskRegistry(model)
    optimiser = OPTIMISERS[name](model.parameters())
    registry.attach(optimiser)
    old = random_keep(registry, seed=1)
    registry.update(old, optimiser)
    for step in range(2):
        train_step(model, registry, optimiser, step)
    new = random_keep(registry, seed=2, density=0.5)
    before = {n: w.detach().clone() for n, w in registry.parameters.items()}
    moments_before = {
        (n, m): optimiser.state[w][m].clone()
        for n, w in registry.parameters.items()
        for m in MOMENTS[type(optimiser)]
        if isinstance(optimiser.state[w].get(m), Tensor)
    }
    assert moments_before
    registry.update(new, optimiser)
    for n, weight in registry.parameters.items():
        # A method that drops and regrows a weight in one update leaves it in both masks.
        stayed = old[n] & new[n]
        assert torch.equal(weight[stayed], before[n][stayed])
        assert torch.count_nonzero(weight[~stayed]) == 0
    for (n, m), value in moments_before.items():
        now, stayed = optimiser.state[registry.parameters[n]][m], old[n] & new[n]
        assert torch.equal(now[stayed], value[stayed])
        assert torch.count_nonzero(now[~stayed]) == 0


def test_skipped_step_of_a_gradient_scaler_keeps_zeros() -> None:
    model = ToyNetwork()
    registry = MaskRegistry(model)
    optimiser = OPTIMISERS["adamw"](model.parameters())
    registry.attach(optimiser)
    registry.update(random_keep(registry, 0), optimiser)
    train_step(model, registry, optimiser, 0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = {n: w.detach().clone() for n, w in registry.parameters.items()}
    for overflow in (True, False):
        optimiser.zero_grad()
        batch = random_batch(7, model.tasks)
        predictions = model(batch.images_BCHW)
        loss = sum((predictions[t] - batch.targets[t]).square().mean() for t in model.tasks)
        scaler.scale(loss).backward()
        if overflow:
            model.trunk[0].weight.grad[0, 0, 0, 0] = torch.inf
        scaler.unscale_(optimiser)
        registry.apply_to_gradients()
        scaler.step(optimiser)
        scaler.update()
        unchanged = all(torch.equal(w, before[n]) for n, w in registry.parameters.items())
        assert unchanged == overflow
        for n, w in registry.parameters.items():
            assert torch.count_nonzero(w[registry.masks[n] == 0]) == 0
    assert_zero_where_pruned(registry, optimiser)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_model_keeps_zeros(backend: str) -> None:
    model = ToyNetwork()
    registry = MaskRegistry(model)
    optimiser = OPTIMISERS["adam"](model.parameters())
    registry.attach(optimiser)
    registry.update(random_keep(registry, 0), optimiser)
    compiled = torch.compile(model, backend=backend)
    for step in range(2):
        train_step(model, registry, optimiser, step, forward=compiled)
        assert_zero_where_pruned(registry, optimiser)


def test_masks_share_dtype_and_layout_with_their_weights() -> None:
    model = ToyNetwork().to(torch.bfloat16).to(memory_format=torch.channels_last)
    registry = MaskRegistry(model)
    registry.update(random_keep(registry, 0), None)
    for name, weight in registry.parameters.items():
        mask = registry.masks[name]
        assert mask.dtype == weight.dtype
        assert mask.stride() == weight.stride()
        assert not mask.requires_grad


def test_registry_knows_owners_and_counts() -> None:
    registry = MaskRegistry(ToyNetwork(tasks=("a", "b", "c")))
    assert [registry.owner[n] for n in registry.names] == ["shared"] * 2 + list("aabbcc")
    assert registry.total == registry.kept == 3 * 6 * 9 + 36 * 9 + 3 * (24 * 9 + 8)
    assert registry.visible("b") == (*registry.names[:2], *registry.names[4:6])
    keep = random_keep(registry, 3)
    registry.update(keep, None)
    assert registry.kept == sum(int(k.sum()) for k in keep.values())
    layer = registry.layers()["heads.c.1.weight"]
    assert layer == {"kept": int(keep["heads.c.1.weight"].sum()), "total": 8, "owner": "c"}


def test_attach_returns_a_handle_and_refuses_unknown_optimisers() -> None:
    class Mine(torch.optim.Adam):
        pass

    registry = MaskRegistry(ToyNetwork())
    weights = list(registry.parameters.values())
    with pytest.raises(UserError, match="Mine"):
        registry.attach(Mine(weights))
    with pytest.raises(UserError, match=r"RMSprop.*valid: Adam, AdamW, SGD"):
        registry.update(registry.keep(), torch.optim.RMSprop(weights))


def test_errors_name_the_tensor() -> None:
    registry = MaskRegistry(ToyNetwork())
    name = "trunk.3.weight"
    keep = registry.keep()
    with pytest.raises(UserError, match=r"trunk\.3\.weight.*\(6, 6, 3, 3\).*\(6,\)"):
        registry.update(keep | {name: torch.ones(6, dtype=torch.bool)}, None)
    with pytest.raises(UserError, match=r"trunk\.3\.weight.*boolean.*float32"):
        registry.update(keep | {name: keep[name].float()}, None)
    with pytest.raises(UserError, match=r"trunk\.3\.weight.*and 0 others"):
        registry.update({n: k for n, k in keep.items() if n != name}, None)
    with pytest.raises(UserError, match=r"trunk\.1\.weight"):  # normalisation is never pruned
        registry.update(keep | {"trunk.1.weight": torch.ones(6, dtype=torch.bool)}, None)
    assert registry.kept == registry.total


def test_a_model_that_forgets_an_owner_is_refused() -> None:
    class Forgetful(ToyNetwork):
        def owners(self) -> dict[str, str]:
            return {n: o for n, o in super().owners().items() if n != "trunk.3.weight"}

    class Foreign(ToyNetwork):
        def owners(self) -> dict[str, str]:
            return super().owners() | {"trunk.3.weight": "depth"}

    with pytest.raises(UserError, match=r"trunk\.3\.weight"):
        MaskRegistry(Forgetful())
    with pytest.raises(UserError, match=r"depth.*valid: a, b, shared"):
        MaskRegistry(Foreign())


def test_tied_weights_are_masked_once() -> None:
    model = LinearNetwork(torch.eye(2), {"a": torch.eye(2), "b": torch.eye(2)})
    model.heads["b"].weight = model.heads["a"].weight
    assert MaskRegistry(model).names == ("shared.weight", "heads.a.weight")


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_packing_is_the_identity_and_an_eighth_of_a_byte(shape: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(shape)
    keep = torch.rand(shape, generator=generator) < 0.5
    bits = Mask(name="w", keep=keep).packed()
    assert bits.numel() == int(np.ceil(keep.numel() / 8))
    assert torch.equal(Mask.from_packed("w", bits, weight).keep, keep)


@pytest.mark.parametrize("channels_last", [False, True])
def test_state_survives_a_file_bit_for_bit(channels_last: bool) -> None:
    model = ToyNetwork()
    registry = MaskRegistry(model)
    keep = random_keep(registry, 5)
    votes = {t: {n: ~keep[n] for n in registry.visible(t)} for t in model.tasks}
    registry.update(keep, None, votes=votes)
    file = io.BytesIO()
    torch.save(registry.state_dict(), file)
    file.seek(0)
    other_model = ToyNetwork()
    if channels_last:
        other_model = other_model.to(memory_format=torch.channels_last)
    other = MaskRegistry(other_model)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.layers() == registry.layers()
    for name in registry.names:
        assert torch.equal(other.masks[name], registry.masks[name])
        assert other.masks[name].stride() == other.parameters[name].stride()
    for task, vote in votes.items():
        assert other.votes is not None
        assert vote.keys() == other.votes[task].keys()
        assert all(torch.equal(other.votes[task][n], vote[n]) for n in vote)


def test_masks_of_another_model_are_refused() -> None:
    state = MaskRegistry(ToyNetwork(width=5)).state_dict()
    with pytest.raises(UserError, match=r"trunk\.0\.weight.*another model"):
        MaskRegistry(ToyNetwork(width=6)).load_state_dict(state)
    with pytest.raises(UserError, match=r"heads\.c"):
        MaskRegistry(ToyNetwork()).load_state_dict(
            MaskRegistry(ToyNetwork(("a", "c"))).state_dict()
        )


@settings(max_examples=50, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, 2**16), st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.sampled_from("uls")
        ),
        min_size=1,
        max_size=6,
    )
)
def test_masks_change_in_place_and_no_factor_is_stale(
    changes: list[tuple[int, float, str]],
) -> None:
    """Whoever holds the tensors, as a recorded step does, sees every change, and nothing older.

    Masks change by an update, and by loading what this or another registry saved.
    """
    model = ToyNetwork()
    registry = MaskRegistry(model)
    held = dict(registry.masks)
    saved = (registry.keep(), registry.state_dict())
    for seed, density, how in changes:
        keep = random_keep(registry, seed, density)
        dense = registry.names[seed % len(registry.names)]
        keep[dense] = torch.ones_like(keep[dense])
        if how == "u":
            registry.update(keep, None)
        elif how == "l":
            other = MaskRegistry(ToyNetwork())
            other.update(keep, None)
            registry.load_state_dict(other.state_dict())
        else:
            keep = saved[0]
            registry.load_state_dict(saved[1])
        for name, weight in registry.parameters.items():
            assert registry.masks[name] is held[name]
            assert torch.equal(held[name], keep[name].to(weight.dtype))
            weight.grad = torch.full_like(weight, 2.0)
            with torch.no_grad():
                weight.fill_(3.0)
        registry.apply_to_gradients()
        registry.apply_to_weights()
        pruned = {name for name in registry.names if not keep[name].all()}
        assert set(registry.sparse_names) == pruned
        for name, weight in registry.parameters.items():
            assert torch.equal(weight.grad, 2.0 * keep[name])
            assert torch.equal(weight, 3.0 * keep[name])
        saved = (keep, registry.state_dict())
