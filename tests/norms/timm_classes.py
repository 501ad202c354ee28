"""The shape of timm's norm classes and of two of its models, written down here: importing timm needs torchvision, which
has no build for every torch. Names, bases, attributes and order of computation are timm's."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class BatchNormAct2d(nn.BatchNorm2d):
    def __init__(self, num_features: int, act: nn.Module | None = None, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.drop = nn.Identity()
        self.act = nn.ReLU(inplace=True) if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(super().forward(x)))
        return y


class GroupNormAct(nn.GroupNorm):
    def __init__(self, num_channels: int, num_groups: int = 2) -> None:
        super().__init__(num_groups, num_channels)
        self.drop, self.act, self._fast_norm = nn.Identity(), nn.ReLU(inplace=True), False

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(super().forward(x)))
        return y


class LayerNorm(nn.LayerNorm):
    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)
        self._fast_norm = False


class LayerNorm2d(nn.LayerNorm):
    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)
        self._fast_norm = False

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class LayerNormAct2d(LayerNorm2d):
    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels)
        self.drop, self.act = nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(super().forward(x)))
        return y


class Residual(nn.Module):
    """A block as in a ResNet whose norms hold the activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), BatchNormAct2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNormAct2d(channels, act=nn.Identity())
        self.gn = GroupNormAct(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gn((self.bn2(self.conv2(self.bn1(self.conv1(x)))) + x).relu())
        return y


class ConvNextBlock(nn.Module):
    """Depthwise convolution, LayerNorm over the last axis, two linear layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)))
        return x + y.permute(0, 3, 1, 2)


def resnet() -> nn.Module:
    """Return a residual net for (N, 3, H, W)."""
    stem = [nn.Conv2d(3, 8, 3, padding=1, bias=False), BatchNormAct2d(8)]
    return nn.Sequential(*stem, Residual(8), Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def convnext() -> nn.Module:
    """Return a ConvNeXt for (N, 3, H, W), H and W multiples of 4."""
    down = [LayerNorm2d(8), nn.Conv2d(8, 12, 2, 2)]
    head = [nn.AdaptiveAvgPool2d(1), LayerNorm2d(12), nn.Flatten(), nn.Linear(12, 5)]
    stem = [nn.Conv2d(3, 8, 2, 2), LayerNorm2d(8)]
    return nn.Sequential(*stem, ConvNextBlock(8), *down, ConvNextBlock(12), *head)
