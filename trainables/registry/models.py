"""Describes the networks: what each one is, and what its cost is measured against.

The networks themselves are in `trainables.models`; they are loaded when a trial needs them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDescription:
    """Describes one network.

    name: its name in `model.name`. summary: one line. paper: its source.
    implementation: import path `package.module:factory`; the factory is called as
      `factory(config: ModelConfig, num_channels: dict[task, int])` and returns a
      `trainables.models.base.MultitaskModel`.
    reads: dotted settings that only this network uses.
    reference: the model of the same sizes whose dense FLOPs count as 1 in `cost/flops_fraction`;
      None if it is its own reference.
    """

    name: str
    summary: str
    implementation: str
    paper: str = ""
    reads: tuple[str, ...] = ()
    reference: str | None = None


MODELS: dict[str, ModelDescription] = {
    model.name: model
    for model in (
        ModelDescription(
            name="deeplab-resnet",
            summary="DeepLab-ResNet with hard sharing: one trunk, one head per task.",
            paper="AdaShare, Sun et al. 2020",
            implementation="trainables.models.deeplab_resnet:DeepLabResNet",
        ),
        ModelDescription(
            name="cross-stitch",
            summary="Cross-Stitch: a DeepLab-ResNet per task, mixed channel by channel after each "
            "stage.",
            paper="Cross-Stitch Networks, Misra et al. 2016",
            implementation="trainables.models.cross_stitch:CrossStitchNetwork",
            reads=("model.unit_rate",),
            reference="deeplab-resnet",
        ),
        ModelDescription(
            name="sluice",
            summary="Sluice: a network per task, mixed by subspaces after each stage.",
            paper="Sluice Networks, Ruder et al. 2019",
            implementation="trainables.models.sluice:SluiceNetwork",
            reference="deeplab-resnet",
        ),
        ModelDescription(
            name="den",
            summary="DEN: a selector picks the width of every block for each image and task.",
            paper="DEN, Ahn et al. 2019",
            implementation="trainables.models.elastic:ElasticNetwork",
            reference="deeplab-resnet",
        ),
    )
}
