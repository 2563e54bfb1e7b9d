"""Laws of structure channel, over random networks and ours."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spaces.presets import trial_config
from tests.trainables.sparsity.structures.networks import PIECES, RandomNetwork, shaken
from tests.trainables.sparsity.toys import ToyNetwork, toy_config
from trainables.errors import UserError
from trainables.models.catalogue import build_model
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.catalogue import build_structure, use_structure
from trainables.sparsity.structures.channels import ChannelStructure
from trainables.sparsity.structures.compaction import compacted
from trainables.sparsity.structures.tracing import trace_units

CHANNELS = {"segmentation": 4, "depth": 1}


def pruned(
    model: nn.Module, density: float, seed: int = 0, **overrides: object
) -> tuple[MaskRegistry, ChannelStructure]:
    """A network of which a random draw keeps `density`."""
    registry = MaskRegistry(model)
    use_structure("channel", registry, model, (32, 32))
    # The density is given with each call; the target is checked beforehand.
    overrides = {"sparsity__target": 0.0, **overrides}
    config = toy_config(sparsity__structure="channel", **overrides)
    structure = build_structure(config.sparsity, registry, {})
    assert isinstance(structure, ChannelStructure)
    masks = structure.draw(density, torch.Generator().manual_seed(seed))
    registry.update(masks, None)
    return registry, structure


def least_share(model: nn.Module, round_to: int) -> float:
    """What is left of the parameters with `round_to` channels in every group."""
    units = trace_units(model, (32, 32))
    keep = torch.cat(
        [
            torch.arange(int((units.group == group).sum())) < round_to
            for group in range(len(units.groups))
        ]
    )
    return units.num_parameters(keep) / units.num_parameters(torch.ones_like(keep))


def difference(model: nn.Module, registry: MaskRegistry, size: int = 32) -> float:
    """Largest difference of masked and compact network, relative to the largest output."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    model.eval()
    smaller = compacted(model, registry)
    with torch.no_grad():
        expected, found = model(images), smaller(images)
    assert expected.keys() == found.keys()
    return max(
        float((expected[t] - found[t]).abs().max() / expected[t].abs().max().clamp_min(1e-6))
        for t in expected
    )


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(PIECES), max_size=4),
    width=st.sampled_from([4, 6]),
    density=st.floats(0.45, 0.95),
    seed=st.integers(0, 99),
)
def test_masked_and_compact_networks_agree(
    kinds: list[str], width: int, density: float, seed: int
) -> None:
    model = shaken(RandomNetwork(kinds, width, seed), seed)
    registry, _ = pruned(model, density, seed)
    assert registry.kept < registry.total
    assert difference(model, registry) <= 1e-5
    smaller = compacted(model, registry)
    assert registry.units is not None
    keep = registry.units.kept(registry.keep())
    num_parameters = sum(p.numel() for p in smaller.parameters())
    assert registry.units.num_parameters(keep) == num_parameters
    # Every layer keeps a channel.
    for module in smaller.modules():
        weight = getattr(module, "weight", None)
        assert weight is None or min(weight.shape) >= 1


@pytest.mark.parametrize("name", ["deeplab-resnet", "cross-stitch", "sluice", "den"])
def test_our_networks(name: str) -> None:
    check_network({"model.name": name}, name)


def test_our_network_on_the_published_grid() -> None:
    check_network({"model.pool_rounding": "up"}, "deeplab-resnet")


def check_network(overrides: dict[str, str], name: str) -> None:
    """Every channel of a network of ours can be pruned, DEN's gated trunk apart."""
    config = trial_config("dense", "scenes", "tiny", overrides=overrides)
    model = shaken(build_model(config.model, CHANNELS, seed=3))
    before = {n: p.clone() for n, p in model.state_dict().items()}
    registry = MaskRegistry(model)
    use_structure("channel", registry, model, (64, 64))
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())
    assert registry.units is not None
    fixed = set(registry.units.left_dense)
    assert all(n.startswith("backbone") for n in fixed) if name == "den" else not fixed
    registry, _ = pruned(model, 0.5)
    assert difference(model, registry, 64) <= 1e-5


@settings(max_examples=30, deadline=None)
@given(
    density=st.floats(0.3, 1.0),
    round_to=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 99),
    allocation=st.sampled_from(["global", "uniform"]),
    nested=st.booleans(),
)
def test_the_budget_is_met_from_below_and_no_block_fits(
    density: float, round_to: int, seed: int, allocation: str, nested: bool
) -> None:
    model = ToyNetwork(width=6, seed=seed)
    overrides = {"sparsity__round_to": round_to, "sparsity__allocation": allocation}
    begin = (1 + density) / 2 if nested else density
    least = least_share(model, round_to)
    if density < least:
        with pytest.raises(UserError, match=r"lower sparsity\.target or sparsity\.round_to"):
            pruned(model, density, seed, **overrides)
        return
    registry, structure = pruned(model, begin, seed, **overrides)
    before = structure.units.kept(registry.keep())
    if nested:
        masks = structure.draw(density, torch.Generator().manual_seed(seed + 1))
        registry.update(masks, None)
    units = structure.units
    keep = units.kept(registry.keep())
    budget = density * sum(math.prod(shape) for shape in units.shapes.values())
    assert units.num_parameters(keep) <= budget + 1e-6
    assert not (keep & ~before).any() or not nested  # levels nest
    for group, name in enumerate(units.groups):
        members = units.group == group
        count, size = int(keep[members].sum()), int(members.sum())
        assert count >= min(round_to, size), name
        whole = int(before[members].sum()) if nested else size
        assert count % round_to == 0 or count == whole
    # Adding any further block of a group breaks the budget.
    for group in range(len(units.groups)):
        pruned_units = ((units.group == group) & ~keep & before).nonzero().reshape(-1)
        if len(pruned_units):
            more = keep.clone()
            more[pruned_units[:round_to]] = True
            assert units.num_parameters(more) > budget


def test_no_unit_is_half_pruned_and_pruned_ones_stay_zero() -> None:
    model = shaken(ToyNetwork(width=6))
    registry, structure = pruned(model, 0.5)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    registry.attach(optimiser)
    for step in range(3):
        optimiser.zero_grad()
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        sum(p.square().mean() for p in model(images).values()).backward()
        registry.apply_to_gradients()
        optimiser.step()
    keep = structure.units.kept(registry.keep())
    assert 0 < keep.sum() < len(keep)
    parameters = dict(model.named_parameters())
    for name, mask in structure.units.masks(keep, list(parameters)).items():
        assert (parameters[name][~mask] == 0).all(), name
        assert (parameters[name][mask] != 0).all(), name
        for moment in ("exp_avg", "exp_avg_sq"):
            assert (optimiser.state[parameters[name]][moment][~mask] == 0).all(), name
    assert difference(model, registry) <= 1e-5
    # What the registry stores brings all of it back.
    other = ToyNetwork(width=6)
    other.load_state_dict(model.state_dict())
    again = MaskRegistry(other)
    use_structure("channel", again, other, (32, 32))
    again.load_state_dict(registry.state_dict())
    assert again.pruned_companions == registry.pruned_companions > 0
    assert again.kept_by_layer == registry.kept_by_layer


@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3),
    density=st.floats(0.5, 0.9),
    seed=st.integers(0, 99),
)
def test_a_vote_leaves_every_layer_a_channel(kinds: list[str], density: float, seed: int) -> None:
    """Also where a layer that is not pruned, such as a transposed convolution, computes them."""
    model = shaken(RandomNetwork(kinds, 6, seed), seed)
    registry, structure = pruned(model, 1.0)
    generator = torch.Generator().manual_seed(seed)
    scores = {
        task: {n: torch.rand(registry.shapes[n], generator=generator) for n in names}
        for task in model.tasks
        for names in [registry.visible(task)]
    }
    proposal = structure.vote(scores, density, generator)
    registry.update(proposal.masks, None, proposal.votes)
    keep = structure.units.kept(registry.keep())
    for group, name in enumerate(structure.units.groups):
        assert keep[structure.units.group == group].any(), name
    assert difference(model, registry) <= 1e-5


def test_scores_that_are_no_number_are_refused() -> None:
    _, structure = pruned(ToyNetwork(width=6), 1.0)
    scores = torch.full((structure.units.num_units,), torch.nan)
    with pytest.raises(FloatingPointError, match="scores must be finite"):
        structure.prune_units(scores, 0.5, torch.Generator())


def test_the_remainder_of_a_layer_does_not_replace_better_channels() -> None:
    """Ten channels in blocks of four: the last block has two, and comes last or not at all."""
    model = ToyNetwork(width=10)
    _, structure = pruned(model, 1.0, sparsity__round_to=4)
    units = structure.units
    order = -torch.arange(units.num_units, dtype=torch.float64)
    for density in (0.5, 0.6, 0.7, 0.8):
        masks = structure.prune_units(order, density, torch.Generator())
        keep = units.kept(masks)
        for group in range(len(units.groups)):
            kept = keep[units.group == group].tolist()
            assert kept == sorted(kept, reverse=True)  # the best of them, without a gap


def test_a_mask_that_keeps_half_a_channel_is_refused() -> None:
    model = ToyNetwork(width=6)
    registry = MaskRegistry(model)
    use_structure("channel", registry, model, (32, 32))
    masks = registry.keep()
    masks["trunk.0.weight"][0, 0, 0, 0] = False
    with pytest.raises(UserError, match=r"`trunk\.0\.weight` keeps a part of one"):
        registry.update(masks, None)


def test_a_target_that_leaves_no_channel_is_refused_with_the_least_there_is() -> None:
    with pytest.raises(UserError, match=r"must leave 1 channels? to every layer.*got a budget of"):
        pruned(ToyNetwork(width=6), 0.01)


def test_a_target_that_no_network_meets_is_refused_before_training() -> None:
    with pytest.raises(UserError, match="must leave 1 channel to every layer"):
        pruned(ToyNetwork(width=6), 1.0, sparsity__target=0.99)


def test_groups_of_convolutions_and_layer_norms_are_left_dense_and_said() -> None:
    class Grouped(ToyNetwork):
        def __init__(self) -> None:
            super().__init__(width=6)
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1),
                nn.Conv2d(6, 6, 3, padding=1, groups=2),
                nn.Conv2d(6, 6, 1),
                nn.GroupNorm(2, 6),
                nn.Conv2d(6, 6, 1),
            )

    model = Grouped()
    units = trace_units(model, (32, 32))
    assert units.left_dense == {
        "trunk.0": "it is a convolution in 2 groups",
        "trunk.1": "it is a convolution in 2 groups",
        "trunk.2": "GroupNorm mixes its channels",
    }
    registry, _ = pruned(model, 0.6)
    assert difference(model, registry) <= 1e-5


def test_a_network_that_counts_on_its_channels_keeps_those_and_prunes_the_others() -> None:
    class Counting(ToyNetwork):
        def forward(self, images_BCHW, tasks=None):  # type: ignore[no-untyped-def]
            features = self.trunk(images_BCHW)
            features = features * torch.arange(1.0, 7.0)[:, None, None]
            return {task: self.heads[task](features) for task in tasks or self.tasks}

    units = trace_units(Counting(width=6), (32, 32))
    assert list(units.left_dense) == ["trunk.3"]
    assert set(units.groups) == {"trunk.0", "heads.a.0", "heads.b.0"}


def test_a_network_that_cannot_be_traced_is_an_error_that_names_it() -> None:
    class Detached(ToyNetwork):
        def forward(self, images_BCHW, tasks=None):  # type: ignore[no-untyped-def]
            raise ValueError("only on Sundays")

    with pytest.raises(UserError, match="trace Detached, got ValueError: only on Sundays"):
        trace_units(Detached(), (32, 32))
