"""Which code computes a norm: chosen here by device, dtype and circumstances, and nowhere else.

plain   torch operations under autograd: differentiable any number of times, forward mode, vmap, what a compiler
        fuses, and norms over pools of (N, C), where there is nothing to gain by cells
blocks  the gradient in closed form, and all of it in blocks that fit a CPU's cache
halves  the same, where x is large and in half precision: what torch's batch norm operators can do of it, they do
triton  the same by kernels for CUDA (norms/kernels), where Triton is there and they are asked for: they have been
        interpreted in the tests, but not yet run on a device

Where torch has an operator for a norm, it does the work unless a path is asked for or ours is faster: `left_to_torch`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from norms import halves
from norms.errors import OptionError

Path = Literal["plain", "blocks", "halves", "triton"]
SETTING = "NORMGAUGE_NORM_KERNEL"
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
# Values a channel that torch's batch norm may sum one after the other in float32, as it does in channels_last. At mean
# 100 and standard deviation 1 the result is then off by 2e-4, and by 1e-3 for 200,000 values; ours by 1e-5.
FEW_VALUES = 4096


class Chosen(NamedTuple):
    """The path and why it was chosen."""

    path: Path
    reason: str


def choose(x: Tensor, requested: str | None = None, *, pools: bool = False) -> Chosen:
    """Return which path a norm takes for the input x, and why.

    Args:
        x: the input; its device, dtype, strides and kind are looked at.
        requested: a path; None: the one that the environment variable NORMGAUGE_NORM_KERNEL names, if it does.
        pools: whether the norm is one over pools (norms/pools.py).

    Raises:
        OptionError: an unknown path, or one that cannot take x.

    >>> choose(torch.zeros(2, 3)).path, choose(torch.zeros(2, 3), "plain")
    ('blocks', Chosen(path='plain', reason='asked for'))
    """
    asked = requested or _setting()
    if asked is not None:
        return _asked(asked, x)
    if needs_plain(x):
        return Chosen("plain", "within torch.func, forward-mode differentiation or a trace")
    if torch.compiler.is_compiling():
        return Chosen("plain", "compiled: the compiler fuses it")
    if pools and x.ndim == 2:
        return Chosen("plain", "one value a cell")
    if x.device.type == "cpu":
        return Chosen("halves", "CPU, half precision") if halves.fits(x) else Chosen("blocks", "CPU")
    return Chosen("plain", f"{x.device.type}: 'triton' is taken where it is asked for")


def left_to_torch(x: Tensor, requested: str | None, *, batch: bool) -> bool:
    """Return whether a norm that torch has an operator for leaves x to it.

    On a CPU torch's are the fastest in float32 and float64 and slow in half precision. In channels_last GroupNorm's is
    slow, and BatchNorm's inexact for many values; compiled GroupNorm's is slower than ours (docs/performance.md).

    Args:
        x: the input.
        requested: the path asked for, as in `choose`; it is never torch's.
        batch: the operator is BatchNorm's; else GroupNorm's.
    """
    if requested is not None or _setting() is not None:
        return False
    compiling = torch.compiler.is_compiling()
    if compiling and not batch:
        return False
    if x.device.type != "cpu":
        return True
    if x.dtype not in (torch.float32, torch.float64):
        return False
    return compiling or x.is_contiguous() or (batch and x.numel() <= FEW_VALUES * x.shape[1])


def needs_plain(x: Tensor) -> bool:
    """Return whether x is being transformed: batched, dual or traced; only torch's own operations know how."""
    if torch.compiler.is_compiling():
        return False
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no types here
def has_triton() -> bool:
    """Return whether Triton is installed."""
    return find_spec("triton") is not None


def steps(path: Path) -> ModuleType:
    """Return the module that does the steps of norms/blocks.py for a path other than "plain"."""
    # Imports here, as statements, since a compiler sees through these alone.
    if path == "triton":
        from norms.kernels import cells

        return cells
    if path == "halves":
        return halves
    from norms import blocks

    return blocks


@contextmanager
def use_kernel(path: Path) -> Iterator[None]:
    """Let every norm take one path within the block; sets NORMGAUGE_NORM_KERNEL, so it holds for all threads.

    >>> with use_kernel("plain"):
    ...     choose(torch.zeros(2, 3)).path
    'plain'
    """
    _known(path)
    before = os.environ.get(SETTING)
    os.environ[SETTING] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ[SETTING]
        else:
            os.environ[SETTING] = before


def _setting() -> str | None:
    return os.environ.get(SETTING)


def _known(path: str) -> Path:
    if path not in get_args(Path):
        raise OptionError(f"expected a path among: {', '.join(get_args(Path))}; got {path!r}: None chooses by itself")
    return cast(Path, path)


def _asked(path: str, x: Tensor) -> Chosen:
    known = _known(path)
    if known != "plain" and needs_plain(x):
        return Chosen("plain", f"within torch.func, forward-mode differentiation or a trace, where {path!r} cannot be")
    if known == "halves":
        if torch.compiler.is_compiling():
            return Chosen("plain", "compiled, where 'halves' cannot be")
        if x.device.type != "cpu" or not halves.takes(x):
            raise OptionError(
                "expected float16 or bfloat16 of three axes or more on a CPU, contiguous or in channels_last, for the "
                f"path 'halves'; got {x.dtype}, shape {tuple(x.shape)}, strides {x.stride()}, on {x.device}: "
                "use 'blocks'"
            )
    if known == "triton" and x.numel() == 0:
        return Chosen("plain", "no values, which no kernel can be launched for")
    if known == "triton":
        if not has_triton():
            raise OptionError("expected Triton for the path 'triton'; found none: pip install 'normgauge[gpu]'")
        if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            raise OptionError(
                f"expected a CUDA tensor for the path 'triton'; got one on {x.device}: use another path, or "
                "TRITON_INTERPRET=1, which is slow"
            )
        if x.dtype not in FLOATS:
            raise OptionError(
                f"expected float32, float16 or bfloat16 for the path 'triton'; got {x.dtype}: use 'plain'"
            )
    return Chosen(known, "asked for")
