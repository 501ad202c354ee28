"""timm's norms: some with dropout and activation behind them, some with channels first where torch has them last."""

from typing import cast

from torch import Tensor, nn

# Known by their names and by what they hold, so that timm need not be there. Each computes its torch base, over the
# channels at each position where it is a LayerNorm, then `drop` and `act` where it has them.
WITH_ACTIVATION = (
    "BatchNormAct2d",
    "SyncBatchNormAct",
    "GroupNormAct",
    "GroupNorm1Act",
    "LayerNormAct",
    "LayerNormActFp32",
    "LayerNormAct2d",
    "LayerNormAct2dFp32",
)
PLAIN = ("GroupNorm", "GroupNorm1", "LayerNorm", "LayerNormFp32", "LayerNorm2d", "LayerNorm2dFp32")
FLAG = "_fast_norm"


class NormAct(nn.Module):
    """A norm, then dropout, then an activation, under the names that timm gives them.

    >>> from torch import ones
    >>> NormAct(nn.Identity(), nn.Identity(), nn.ReLU())(-ones(1, 1)).item()
    0.0
    """

    def __init__(self, norm: nn.Module, drop: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.drop = drop
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Return act(drop(norm(x)))."""
        y = cast(Tensor, self.norm(x))
        if y is x and getattr(self.act, "inplace", False):
            y = x.clone()  # a norm that is skipped returns x itself, which belongs to the caller
        return cast(Tensor, self.act(self.drop(y)))


def has_activation(module: nn.Module) -> bool:
    """Return whether the module is one of timm's norms with dropout and activation."""
    parts = getattr(module, "drop", None), getattr(module, "act", None)
    return type(module).__name__ in WITH_ACTIVATION and all(isinstance(part, nn.Module) for part in parts)


def is_known(module: nn.Module) -> bool:
    """Return whether the module is one of timm's norms, of which is known what they compute beside their base."""
    name = type(module).__name__
    return has_activation(module) or (name in PLAIN and (name.endswith("Fp32") or hasattr(module, FLAG)))


def channels_first(module: nn.Module) -> bool:
    """Return whether it is a LayerNorm over the channels at axis 1."""
    return is_known(module) and "2d" in type(module).__name__
