"""The rule of the method `published`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from norms.rules.base import Rule
from norms.rules.moments import check_batch, float_dtype


@dataclass(frozen=True)
class ClassDeviationRule(Rule):
    """The published rule: some sample's mean lies outside the band of every class.

    A label is not needed: a sample is inside when |a_s - T_c| <= cutoff |T_c| for any class c. With T_c = 0
    only a_s = 0 is inside.

    Attributes:
        cutoff: width of the band, relative to T_c.
        class_means: T_c.
        published_exact: as the released code: a_s without the last row and the last column (the last
            two axes), and the band of a negative T_c is empty.

    Source: Alsobhi et al., arXiv 2211.02050.
    """

    measure: ClassVar[str] = "class_deviation"
    class_means: tuple[float, ...] = ()
    published_exact: bool = False

    def score(self, x: Tensor) -> Tensor:
        """Return the largest over samples of the smallest over classes of |a_s - T_c| / |T_c|."""
        check_batch(x)
        wide = x.detach().to(float_dtype(x.device))
        if self.published_exact and x.ndim >= 3:
            wide = wide[..., :-1, :-1]
        means = wide.flatten(1).mean(1, keepdim=True)
        centres = torch.tensor(self.class_means, dtype=wide.dtype)
        centres = centres.to(wide.device, non_blocking=True)
        distance = (means - centres).abs()
        relative = torch.where(distance == 0, 0.0, distance / centres.abs())
        if self.published_exact:
            relative = torch.where(centres < 0, torch.inf, relative)
        return relative.amin(1).amax(0)
