"""A network that a trial cannot train, mask, save or load is refused before training."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.contracts.conftest import MicroTrial
from trainables.errors import Failure, UserError
from trainables.training import assembly
from trainables.training.trial import TrialRun


class Net(nn.Module):
    """A stem, a middle part of a linear layer over channels, and a head for each task."""

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.mix: Any = nn.Linear(8, 8)
        self.heads = nn.ModuleDict({t: nn.Conv2d(8, n, 1) for t, n in num_channels.items()})
        self.finish()

    def finish(self) -> None: ...

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        features = self.mix(F.relu(self.stem(images)).movedim(1, -1)).movedim(-1, 1)
        return {task: self.heads[task](features) for task in tasks or self.tasks}

    def owners(self) -> dict[str, str]:
        return {
            name: name.split(".")[1] if name.startswith("heads.") else "shared"
            for name, _ in self.named_parameters()
        }


class Phases(Net):
    """Turns features by learnt phases."""

    def finish(self) -> None:
        self.phases = nn.Parameter(torch.ones(8, dtype=torch.complex64))

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        found = super().forward(images, tasks)
        return {task: value * self.phases.real.mean() for task, value in found.items()}


class FixedPhases(Phases):
    """The same with phases, and a table of whole numbers, that are not trained."""

    def finish(self) -> None:
        super().finish()
        self.phases.requires_grad_(False)
        self.table = nn.Parameter(torch.arange(8), requires_grad=False)


class OneRowForAll(Net):
    def finish(self) -> None:
        self.mix.weight = nn.Parameter(torch.ones(1, 8).expand(8, 8))


class SameMemory(Net):
    def finish(self) -> None:
        self.mix = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        self.mix[1].weight = nn.Parameter(self.mix[0].weight.detach())


class Grows(nn.Module):
    """Makes its layer when it knows the shape."""

    def forward(self, features: Tensor) -> Tensor:
        if not hasattr(self, "layer"):
            self.layer = nn.Linear(features.shape[-1], 8)
        out: Tensor = self.layer(features)
        return out


class MakesALayer(Net):
    def finish(self) -> None:
        self.mix = Grows()


class DropsALayer(Net):
    def finish(self) -> None:
        self.warm_up = nn.Linear(8, 8)

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        self.warm_up = None  # type: ignore[assignment]
        return super().forward(images, tasks)


class NeverShaped(Net):
    def finish(self) -> None:
        self.mix = nn.ModuleDict({"used": nn.LazyLinear(8), "spare": nn.LazyLinear(8)})

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        features = self.mix["used"](F.relu(self.stem(images)).movedim(1, -1)).movedim(-1, 1)
        return {task: self.heads[task](features) for task in tasks or self.tasks}


class WithoutValues(Net):
    def finish(self) -> None:
        self.heads["depth"].to("meta")


class Calibrated(nn.Linear):
    """Keeps its range beside its weights."""

    def get_extra_state(self) -> object:
        return {"range": (0.0, 1.0)}

    def set_extra_state(self, state: object) -> None: ...


class KeepsMoreThanTensors(Net):
    def finish(self) -> None:
        self.mix = Calibrated(8, 8)


class HalfAState(Net):
    def state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        return {n: v for n, v in super().state_dict(*arguments, **options).items() if "mix" in n}


class NoState(Net):
    def state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        raise LookupError("sharded")


class MadeForInference(Net):
    def finish(self) -> None:
        with torch.inference_mode():
            self.mix = nn.Linear(8, 8)


class SparseWeight(Net):
    def finish(self) -> None:
        self.mix.weight = nn.Parameter(torch.eye(8).to_sparse())


class FixedWeight(Net):
    """A layer whose weight is a buffer: nothing of it is trained but the bias."""

    def finish(self) -> None:
        weight = self.mix.weight.detach()
        del self.mix.weight
        self.mix.register_buffer("weight", weight)


class SparseGradient(Net):
    """Adds a position's code from a table whose gradient has the rows that were read."""

    def finish(self) -> None:
        self.codes = nn.Embedding(16, 8, sparse=True)

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        code = self.codes(torch.arange(2)).sum()
        return {task: value + code for task, value in super().forward(images, tasks).items()}


class Recentres(Net):
    """Changes its own weight in every pass, pruned entries too."""

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        self.mix.weight.data -= self.mix.weight.data.mean() + 0.01
        return super().forward(images, tasks)


class Moves(Net):
    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        return {task: value.to("meta") for task, value in super().forward(images, tasks).items()}


class AddsVector(Net):
    def auxiliary_loss(self, losses: object) -> object:
        return self.mix.weight


class AddsNumber(Net):
    def auxiliary_loss(self, losses: object) -> object:
        return 0.5


class AddsNan(Net):
    def auxiliary_loss(self, losses: object) -> object:
        return self.mix.weight.sum() * float("nan")


class StartsOtherwise(Net):
    def start_step(self) -> None: ...


class Overflows(Net):
    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        found = super().forward(images, tasks)
        return {t: v / 0 if self.training else v for t, v in found.items()}


class Decides(Net):
    """Gives the answer in place of the scores."""

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        return {task: value > 0 for task, value in super().forward(images, tasks).items()}


class Elsewhere(Net):
    """The first task is predicted by a network of its own, which was trained elsewhere."""

    def finish(self) -> None:
        self.done = nn.Conv2d(3, self.heads[self.tasks[0]].out_channels, 3, padding=1)
        self.done.requires_grad_(False)
        del self.heads[self.tasks[0]]

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        wanted = tuple(tasks or self.tasks)
        found = super().forward(images, [task for task in wanted if task in self.heads])
        return {t: self.done(images) if t == self.tasks[0] else found[t] for t in wanted}


def run(
    micro_trial: MicroTrial,
    kind: type[Net],
    method: str = "snip",
    num_tasks: int = 2,
    **more: Any,
) -> TrialRun:
    config = micro_trial(
        method,
        num_tasks=num_tasks,
        sparsity=0.5,
        overrides={"model.name": f"{__name__}:{kind.__name__}", **more},
    )
    return TrialRun(config, device="cpu")


def finished(trial: TrialRun) -> TrialRun:
    while trial.next_report() is not None:
        pass
    return trial


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Phases, r"must train real numbers, but `phases` is torch\.complex64; .*freeze it"),
        (OneRowForAll, r"entries of `mix\.weight` share theirs \(expand\); add \.clone\(\)"),
        (SameMemory, r"`mix\.0\.weight` and `mix\.1\.weight` share theirs; .*ties them"),
        (MakesALayer, r"makes, replaces or removes `mix\.layer\.bias`; make layers in __init__"),
        (DropsALayer, r"makes, replaces or removes `warm_up\.bias`"),
        (NeverShaped, r"forward never ran `mix\.spare`; call it there, leave it out"),
        (WithoutValues, r"`heads\.depth\.weight` is on the meta device; build it on the CPU"),
        (KeepsMoreThanTensors, r"must hold tensors alone, got dict for 'mix\._extra_state'"),
        (HalfAState, r"must hold every parameter, 6 are missing, first 'stem\.weight'"),
        (NoState, r"state_dict\(\) of model .* raised in .* LookupError: sharded"),
        (MadeForInference, r"`mix\.weight` was made under torch\.inference_mode; build the"),
        (SparseWeight, r"`mix\.weight` has layout torch\.sparse_coo; hold it as a dense one"),
        (Moves, r"prediction of segmentation must be on the images' device, cpu, got meta"),
        (Decides, r"prediction of segmentation must be of floating-point numbers, got torch\.bool"),
    ],
)
def test_what_a_trial_cannot_work_with(micro_trial: MicroTrial, kind: type[Net], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        run(micro_trial, kind)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            SparseGradient,
            r"gradient of `codes\.weight` must be dense, got one of layout torch\.spa",
        ),
        (
            Recentres,
            r"leave pruned weights at zero, but its forward changes those of `mix\.weight`",
        ),
        (AddsVector, r"auxiliary_loss\(\) of model .* without dimensions, got shape \(8, 8\)"),
        (StartsOtherwise, r"start_step\(\) of model .* raised .*TypeError"),
        (Overflows, r"prediction of segmentation must be finite, got .* before any step"),
    ],
)
def test_what_shows_in_training_is_named(
    micro_trial: MicroTrial, kind: type[Net], said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        finished(run(micro_trial, kind))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["dense", "snip"])
def test_a_loss_of_the_networks_own_that_is_nan_is_named(
    micro_trial: MicroTrial, method: str
) -> None:
    with pytest.raises(
        Failure, match=r"auxiliary_loss\(\) nan\).* learning rate is not the reason"
    ):
        finished(run(micro_trial, AddsNan, method))


def test_a_fixed_weight_and_a_number_as_a_loss_are_taken(micro_trial: MicroTrial) -> None:
    trial = finished(run(micro_trial, FixedWeight))
    assert "mix.weight" not in trial.registry.names
    assert trial.registry.kept == trial.registry.total / 2
    finished(run(micro_trial, AddsNumber))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_what_is_not_trained_may_be_of_any_type(micro_trial: MicroTrial, optimiser: str) -> None:
    trial = finished(run(micro_trial, FixedPhases, **{"optimiser.name": optimiser}))
    assert torch.equal(trial.model.phases, torch.ones(8, dtype=torch.complex64))
    assert torch.equal(trial.model.table, torch.arange(8))


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("method", ["disparse-static", "disparse-dynamic", "disparse-pretrained"])
def test_a_task_that_serves_no_weight_has_no_vote(
    micro_trial: MicroTrial, method: str, accumulation: int
) -> None:
    more = {"training.accumulation": accumulation}
    trial = finished(run(micro_trial, Elsewhere, method, num_tasks=3, **more))
    # The stem's 216, the linear layer's 64 and the two other heads' 32: half of them, exactly.
    assert (trial.registry.total, trial.registry.kept) == (312, 156)
    assert set(trial.loop.ballots()) == {"stem.weight", "mix.weight"}  # of the two others


def test_what_weights_serve_is_found_on_the_cpu(
    micro_trial: MicroTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []

    def called(name: str, real: Any, *given: Any, **more: Any) -> Any:
        order.append(name)
        return real(*given, **more)

    for name in ("service_of", "placed"):
        real = getattr(assembly, name)
        monkeypatch.setattr(assembly, name, functools.partial(called, name, real))
    run(micro_trial, Net)
    assert order == ["service_of", "placed"]
