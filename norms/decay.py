"""Weight decay that treats gamma and beta as what they are: gamma decays toward 1, beta toward 0."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from norms.base import ChannelNorm
from norms.errors import OptionError
from norms.sources import TORCH_NORMS

TOWARD_ONE = "decay_toward_one"


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float = 0.0,
    gamma_decay: float = 0.0,
    beta_decay: float = 0.0,
    decay_biases: bool = True,
) -> list[dict[str, Any]]:
    """Return the model's parameters as groups for an optimizer, gamma and beta of its norms apart.

    The groups, empty ones left out: parameters of other layers with `weight_decay`, beta with `beta_decay`,
    gamma, and what else a norm learns (the gain of a Kalman norm), which does not decay. An optimizer decays
    toward 0 only, so gamma's group has weight_decay 0 and holds `gamma_decay` under "decay_toward_one", which
    `decay_gamma(optimizer)` carries out.

    Args:
        model: any module. Norms are those of this package and torch's.
        weight_decay: of all parameters that belong to no norm.
        gamma_decay: strength of the pull of gamma toward 1.
        beta_decay: strength of the pull of beta toward 0.
        decay_biases: False: biases of layers that are no norms go into beta's group.

    Raises:
        OptionError: a negative decay.

    Source: Summers & Dinneen, arXiv 1906.03548, section 3.3.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> groups = parameter_groups(model, weight_decay=1e-4, gamma_decay=1e-3)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(2, 0.0001), (1, 0.0), (1, 0.0)]
    """
    for name, value in (("weight", weight_decay), ("gamma", gamma_decay), ("beta", beta_decay)):
        if value < 0:
            raise OptionError(f"expected {name}_decay >= 0; got {value}")
    gammas: dict[int, nn.Parameter] = {}
    betas: dict[int, nn.Parameter] = {}
    others: dict[int, nn.Parameter] = {}
    rest: dict[int, nn.Parameter] = {}
    for module in model.modules():
        is_norm = isinstance(module, (ChannelNorm, *TORCH_NORMS))
        for name, parameter in module.named_parameters(recurse=False):
            if is_norm and name == "weight":
                gammas[id(parameter)] = parameter
            elif name == "bias" and (is_norm or not decay_biases):
                betas[id(parameter)] = parameter
            elif is_norm:
                rest[id(parameter)] = parameter
            else:
                others.setdefault(id(parameter), parameter)
    groups: list[dict[str, Any]] = [
        {"params": list(others.values()), "weight_decay": weight_decay},
        {"params": list(betas.values()), "weight_decay": beta_decay},
        {"params": list(gammas.values()), "weight_decay": 0.0, TOWARD_ONE: gamma_decay},
        {"params": list(rest.values()), "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def decay_gamma(optimizer: Optimizer) -> RemovableHandle:
    """Let every step of the optimizer pull gamma toward 1; return a handle whose `remove()` ends it.

    Before each step gamma's gradient receives gamma_decay (gamma - 1), which is the gradient of
    gamma_decay / 2 (gamma - 1)^2 in the loss, in any optimizer. Parameters without a gradient are left alone,
    as an optimizer leaves them.

    Args:
        optimizer: made from `parameter_groups`.

    Raises:
        OptionError: no group of the optimizer has gammas.

    >>> model = nn.BatchNorm1d(1)
    >>> optimizer = torch.optim.SGD(parameter_groups(model, gamma_decay=0.5), lr=1.0)
    >>> handle = decay_gamma(optimizer)
    >>> with torch.no_grad():
    ...     _ = model.weight.fill_(3.0)
    >>> model.weight.grad = torch.zeros(1)
    >>> optimizer.step()
    >>> model.weight.item()
    2.0
    """
    if not any(TOWARD_ONE in group for group in optimizer.param_groups):
        raise OptionError(
            "expected an optimizer made from parameter_groups(model, gamma_decay=...); got one without gammas"
        )

    @torch.no_grad()
    def pull(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for group in optimizer.param_groups:
            strength = group.get(TOWARD_ONE, 0.0)
            for parameter in group["params"] if strength else ():
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - 1, alpha=strength)

    return optimizer.register_step_pre_hook(pull)
