"""A channels-first norm for input whose channels are the last axis."""

from typing import cast

from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """A norm of (N, C, *) applied to (N, *, C).

    >>> from torch import nn, ones
    >>> ChannelsLast(nn.Identity())(ones(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Return norm(x) with the last axis seen as axis 1."""
        return cast(Tensor, self.norm(x.movedim(-1, 1))).movedim(1, -1)
