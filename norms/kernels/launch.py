"""How kernels are launched: tile sizes by shape and layout, with the reasons."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Launch:
    """A tile of channels times positions for a program, and how often a cell is split.

    Attributes:
        channels: of a tile; a power of two.
        positions: of a tile; a power of two.
        splits: programs that share a cell in a reduction.
        warps: of a program.
    """

    channels: int
    positions: int
    splits: int
    warps: int


# 4096 float32 values are 32 a thread at 4 warps: enough loads in flight to hide memory latency, few enough for the
# registers. Not tuned on a device yet.
TILE = 4096
WARPS = 4
# Programs that keep an H200's 132 multiprocessors busy, some four each; more splits only add partial sums to write.
PROGRAMS = 528
# Along the contiguous axis: 32 values of float32 are the 128 bytes that one transaction brings.
ROW = 32


@dataclass(frozen=True)
class View:
    """x as (N, C, positions) in memory: sizes, and strides in elements."""

    samples: int
    channels: int
    positions: int
    by_sample: int
    by_channel: int
    by_position: int


def view(x: Tensor) -> View | None:
    """Return x, (N, C, *), as (N, C, positions) without a copy; None where its memory has no such view.

    >>> import torch
    >>> view(torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last))
    View(samples=2, channels=3, positions=20, by_sample=60, by_channel=1, by_position=3)
    """
    n, c = x.shape[:2]
    position, expected = 1, None
    for size, stride in zip(reversed(x.shape[2:]), reversed(x.stride()[2:]), strict=True):
        if size == 1:
            continue
        if expected is None:
            position = stride
        elif stride != expected:
            return None
        expected = stride * size
    return View(n, c, x.shape[2:].numel(), x.stride(0), x.stride(1), position)


def launch(seen: View) -> Launch:
    """Return the tiles for a view.

    The batch size changes the grid alone, so no kernel is compiled anew for another one.

    >>> launch(View(64, 64, 3136, 200704, 3136, 1))
    Launch(channels=1, positions=4096, splits=1, warps=4)
    """
    if seen.by_position <= seen.by_channel:  # positions lie together
        positions = min(TILE, power_of_two(seen.positions))
        channels = min(power_of_two(seen.channels), TILE // positions)
    else:
        channels = min(TILE // ROW, power_of_two(seen.channels))
        positions = min(TILE // channels, power_of_two(seen.positions))
    programs = seen.samples * -(-seen.channels // channels)
    tiles = -(-seen.positions // positions)
    splits = min(tiles, max(1, PROGRAMS // programs))
    return Launch(channels, positions, splits, WARPS)


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least n.

    >>> [power_of_two(n) for n in (1, 3, 64)]
    [1, 4, 64]
    """
    return 1 << (n - 1).bit_length()
