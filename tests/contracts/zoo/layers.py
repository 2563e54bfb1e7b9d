"""Networks of other kinds of layers than plain convolutions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.contracts.zoo.network import WIDTH, Zoo, conv


class UNet(Zoo):
    prunable = ("down.weight", "up.weight", "join.weight")

    def parts(self) -> None:
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2)
        self.join = conv(2 * WIDTH)

    def middle(self, features: Tensor) -> Tensor:
        up = self.up(F.relu(self.down(features)))
        return F.relu(self.join(torch.cat([up, features], 1)))


class OtherDimensions(Zoo):
    """Convolutions, transposed ones included, along rows and in volumes."""

    prunable = ("rows.weight", "rows_up.weight", "volume.weight", "volume_up.weight")

    def parts(self) -> None:
        self.rows = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.rows_up = nn.ConvTranspose1d(WIDTH, WIDTH, 3, padding=1)
        self.volume = nn.Conv3d(WIDTH, WIDTH, 1)
        self.volume_up = nn.ConvTranspose3d(WIDTH, WIDTH, (1, 3, 3), padding=(0, 1, 1))

    def middle(self, features: Tensor) -> Tensor:
        rows = F.relu(self.rows_up(F.relu(self.rows(features.mean(2)))))
        volume = self.volume_up(F.relu(self.volume(features[:, :, None])))
        return F.relu(volume[:, :, 0]) + rows[:, :, None]


class Grouped(Zoo):
    prunable = ("grouped.weight", "depthwise.weight", "up.weight", "mix.weight")

    def parts(self) -> None:
        self.grouped, self.depthwise = conv(groups=2), conv(groups=WIDTH)
        self.up = nn.ConvTranspose2d(WIDTH, WIDTH, 3, padding=1, groups=2)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1)

    def middle(self, features: Tensor) -> Tensor:
        for layer in (self.grouped, self.depthwise, self.up, self.mix):
            features = F.relu(layer(features))
        return features


class DataParallelPart(Zoo):
    prunable = ("body.module.0.weight",)

    def parts(self) -> None:
        self.body = nn.DataParallel(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH)))

    def middle(self, features: Tensor) -> Tensor:
        return F.relu(self.body(features))


class Attention(Zoo):
    prunable = ("attention.out_proj.weight",)
    said = "192 of MultiheadAttention (attention)"

    def parts(self) -> None:
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def middle(self, features: Tensor) -> Tensor:
        tokens = F.avg_pool2d(features, 4).flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return features + mixed.mean(1)[:, :, None, None]


class ScriptedPart(Zoo):
    prunable = ("mix.weight",)
    said = "576 of scripted Conv2d (scripted.0)"

    def parts(self) -> None:
        self.scripted = torch.jit.script(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH)))
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        return F.relu(self.mix(self.scripted(features)))
