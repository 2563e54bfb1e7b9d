"""The key of a dense run changes with what decides its result, and with nothing else."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainables
from tests.trainables.training.runs import finish
from trainables.data.catalogue import store_root
from trainables.integrity.code_digest import digest_import
from trainables.training.dense import dense_config
from trainables.training.dense_runs import key as dense_key
from trainables.training.dense_runs.key import entry_key, package_digest
from trainables.training.trial import TrialRun

PACKAGE = Path(trainables.__file__).parent


@pytest.fixture(autouse=True)
def _as_a_new_process() -> Iterator[None]:
    yield
    package_digest.cache_clear()
    digest_import.cache_clear()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package, to be edited."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "trainables", ignore=ignored))


EDITS = {
    "config.py": True,
    "seeds.py": True,
    "report.py": True,
    "coercion.py": True,
    "cost/cost_model.py": True,  # of the metrics in the stored reports
    "data/loading/loader.py": True,
    "models/deeplab_resnet.py": True,
    "tasks/losses/added.py": True,
    "training/loop/loop.py": True,
    "sparsity/masks.py": True,
    "tune.py": False,
    "__main__.py": False,
    "models/notes.txt": False,
}


def test_an_edit_of_what_trains_makes_other_entries(copied: Path) -> None:
    before = package_digest(copied)
    assert before == package_digest(PACKAGE)  # wherever it lies
    for edited, counts in EDITS.items():
        path = copied / edited
        path.parent.mkdir(exist_ok=True)
        source = path.read_text() if path.exists() else None
        path.write_text(f"{source or ''}\nADDED = 1\n")
        package_digest.cache_clear()
        assert (package_digest(copied) != before) == counts, edited
        path.write_text(source) if source is not None else path.unlink()


def test_a_comment_or_a_docstring_keeps_the_key_and_a_constant_changes_it(copied: Path) -> None:
    path = copied / "training" / "loop" / "optimisation.py"
    source = path.read_text()

    def digest_of(text: str) -> str:
        path.write_text(text)
        package_digest.cache_clear()
        return package_digest(copied)

    before = digest_of(source)
    path.write_text("")
    assert package_digest(copied) == before  # what a process has imported stays as it is
    assert digest_of("# A comment.\n" + source) == before
    assert (
        digest_of(source.replace('"""The optimiser', '"""Other words for the optimiser')) == before
    )
    assert source.count("0.01 +") == 1
    assert digest_of(source.replace("0.01 +", "0.02 +")) != before


def test_the_key_follows_the_code(small_trial, monkeypatch) -> None:
    config = dense_config(small_trial("imp"))
    before = entry_key(config, "cpu")
    assert entry_key(config, "cpu") == before
    monkeypatch.setattr(dense_key, "package_digest", lambda: "edited")
    assert entry_key(config, "cpu") != before


DESCRIPTIONS = """
from trainables.registry.datasets import DatasetDescription
from trainables.registry.models import ModelDescription
from trainables.registry.tasks import Metric, TaskDescription

model = ModelDescription(name="theirs", summary="a model", implementation="their_code:thing")
raw = DatasetDescription(
    summary="raw data", tasks=("depth",), num_classes=0, depth_kind="metric",
    open_source="their_code:thing",
)
generated = DatasetDescription(
    summary="frames", tasks=("depth",), num_classes=0, depth_kind="metric",
    generate="their_code:thing",
)
task = TaskDescription(
    name="theirs",
    summary="a task of a user's own",
    implementation="their_code:thing",
    metrics=(Metric(name="theirs/error", unit="m", direction="minimize", description="error"),),
    primary="theirs/error",
    channels=1,
    kind="values",
)
"""


@pytest.mark.parametrize("edited", ["descriptions/__init__.py", "their_code.py"])
@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("model.name", "model"),
        ("data.dataset", "raw"),
        ("data.dataset", "generated"),
        ("data.own_tasks", "task"),
    ],
)
def test_the_key_follows_a_users_own_code(
    small_trial, tmp_path, monkeypatch, setting, name, edited
) -> None:
    """It follows a description named by import path, and the code that the description names."""
    config = dense_config(small_trial("imp"))
    (tmp_path / "descriptions").mkdir()
    (tmp_path / "descriptions" / "__init__.py").write_text(DESCRIPTIONS)
    (tmp_path / "their_code.py").write_text("def thing(): ...\n")
    source = (tmp_path / edited).read_text()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path), *sys.path])
        patch.delitem(sys.modules, "descriptions", raising=False)
        # The data are those of before: only the code behind the name is looked at here.
        opened = dense_key.open_dataset(config.data)
        patch.setattr(dense_key, "open_dataset", lambda _: opened)
        keys = []
        for text in ("NUMBER = 1\n", "# Words.\nNUMBER = 1\n", "NUMBER = 2\n"):
            (tmp_path / edited).write_text(source + text)
            digest_import.cache_clear()
            own = config.replace({setting: f"descriptions:{name}"})
            keys.append(entry_key(own, "cpu"))
    assert keys[0] == keys[1]
    assert keys[1] != keys[2]
    assert entry_key(config, "cpu") not in keys


def test_a_model_named_by_its_class_has_a_key(small_trial, tmp_path, monkeypatch) -> None:
    (tmp_path / "their_net.py").write_text("class Net: ...\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    config = dense_config(small_trial("imp"))
    own = config.replace({"model.name": "their_net:Net"})
    before = entry_key(own, "cpu")
    assert before != entry_key(config, "cpu")
    (tmp_path / "their_net.py").write_text("class Net: width = 2\n")
    digest_import.cache_clear()
    assert entry_key(own, "cpu") != before


def test_an_own_description_of_this_packages_code_adds_no_digest_of_the_package(
    small_trial, tmp_path, monkeypatch
) -> None:
    """`package_digest` covers that code; the whole package would make every edit count."""
    network = "trainables.models.deeplab_resnet:DeepLabResNet"
    described = DESCRIPTIONS.replace("their_code:thing", network)
    (tmp_path / "our_network.py").write_text(described)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    read: list[str] = []

    def logged(path: str) -> str | None:
        read.append(path)
        return digest_import(path)

    monkeypatch.setattr(dense_key, "digest_import", logged)
    config = dense_config(small_trial("imp"))
    entry_key(config.replace({"model.name": "our_network:model"}), "cpu")
    assert read == ["our_network:model"]


@pytest.mark.parametrize(
    "overrides",
    [
        {"seed": 1},
        {"metrics": "published"},
        {"data.num_train": 20},
        {"data.split_seed": 1},
        {"data.mirror": False},
        {"model.width": 5},
        {"optimiser.learning_rate": 1e-4},
        {"optimiser.name": "sgd"},
        {"training.pretrain_steps": 5},
        {"training.batch_size": 2},
        {"training.loss_weights.depth": 2.0},
        {"training.precision": "bf16"},
        {"data.tasks": "depth,segmentation"},
    ],
)
def test_different_dense_trials_have_different_entries(small_trial, overrides, tmp_path):
    one, other = small_trial("imp"), small_trial("imp").replace(overrides)
    if "data.num_train" in overrides:
        other = other.replace({"data.root": str(tmp_path)})
    keys = {entry_key(dense_config(config), "cpu") for config in (one, other)}
    assert len(keys) == 2


def test_what_a_dense_trial_does_not_read_does_not_part_them(small_trial, tmp_path):
    one = small_trial("imp")
    others = [
        small_trial("lth", {"training.pretrain_steps": 4}, sparsity=0.5),
        small_trial("random-pretrained", {"sparsity.arbiter": "majority"}),
        small_trial("disparse-pretrained", {"regrowth.fraction": 0.1, "training.steps": 9}),
        one.replace({"training.precision": "fp32", "optimiser.momentum": 0.5}),
    ]
    moved = tmp_path / "moved"
    shutil.copytree(store_root(one.data), moved)
    others.append(one.replace({"data.root": str(moved)}))
    keys = {entry_key(dense_config(config), "cpu") for config in (one, *others)}
    assert len(keys) == 1


def test_a_dense_trial_reads_nothing_of_what_the_key_leaves_out(small_trial):
    """Every setting of sparsity and regrowth at another value: the same reports to the bit."""
    plain = small_trial("dense")
    odd = plain.replace(
        {
            "sparsity.structure": "channel",
            "sparsity.target": 0.75,
            "sparsity.counts": "flops",
            "sparsity.round_to": 3,
            "sparsity.allocation": "uniform",
            "sparsity.schedule": "levels",
            "sparsity.start_fraction": 0.25,
            "sparsity.end_fraction": 0.4,
            "sparsity.interval_steps": 3,
            "sparsity.level_fraction": 0.5,
            "sparsity.rewind_fraction": 0.2,
            "sparsity.score": "magnitude",
            "sparsity.saliency_batches": 9,
            "sparsity.saliency_weights": "xavier",
            "sparsity.arbiter": "majority",
            "regrowth.fraction": 0.9,
            "regrowth.annealing": "linear",
            "regrowth.interval_steps": 1,
            "regrowth.end_fraction": 1.0,
            "regrowth.budget": "published",
            "regrowth.gradient_at": "dense",
            "deployment.measure": True,
            "deployment.runtime": "torch",
            "deployment.device": "cuda",
            "deployment.threads": 7,
            "training.pretrain_steps": 7,
            "optimiser.momentum": 0.5,
            "optimiser.halve_every_fraction": 0.5,
            "optimiser.decay_factor": 0.3,
            "optimiser.retraining_rate": 1e-7,
        }
    )
    groups = ("sparsity.", "regrowth.", "deployment.")
    left_out = {name for name in plain.flat() if name.startswith(groups)}
    before, after = plain.flat(), odd.flat()
    # A setting that is added to these groups has to be given another value here.
    unchanged = {name for name in left_out if before[name] == after[name]}
    assert unchanged == set()
    assert entry_key(odd, "cpu") == entry_key(plain, "cpu")
    assert finish(TrialRun(odd, device="cpu")) == finish(TrialRun(plain, device="cpu"))


def test_a_dense_trial_and_an_equal_pretraining_share_an_entry(small_trial):
    twelve = small_trial("imp", {"training.pretrain_steps": 12})
    assert entry_key(dense_config(twelve), "cpu") == entry_key(small_trial("dense"), "cpu")
