"""Norms that torch has too: the same numbers, the same state_dict."""

import pytest
import torch
from torch import nn

from norms import BatchNorm, InputError, InstanceNorm, LayerNorm, RMSNorm, create

TORCH_BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
SHAPES = {2: (5, 3), 3: (5, 3, 7), 4: (5, 3, 4, 3), 5: (4, 3, 3, 2, 2)}


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_is_torch_batch_norm(rank: int, momentum: float | None) -> None:
    ours, theirs = BatchNorm(3, momentum=momentum), TORCH_BATCH[rank](3, momentum=momentum)
    for _ in range(3):
        x = torch.randn(SHAPES[rank]) * 3 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    x = torch.randn(SHAPES[rank])
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_state_dict_is_torchs_both_ways(affine: bool, track: bool) -> None:
    ours = BatchNorm(3, affine=affine, track_running_stats=track)
    theirs = nn.BatchNorm2d(3, affine=affine, track_running_stats=track)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_layer_is_torch_layer_norm_but_for_the_affine() -> None:
    x = torch.randn(4, 3, 5, 2) * 3 + 1
    torch.testing.assert_close(LayerNorm(3)(x), nn.functional.layer_norm(x, (3, 5, 2)))
    torch.testing.assert_close(LayerNorm(3)(x[..., 0, 0]), nn.LayerNorm(3)(x[..., 0, 0]))


def test_group_and_instance_are_torchs() -> None:
    x = torch.randn(4, 6, 5, 2) * 3 + 1
    torch.testing.assert_close(create("group", 6, num_groups=2)(x), nn.GroupNorm(2, 6)(x))
    torch.testing.assert_close(InstanceNorm(6)(x), nn.InstanceNorm2d(6)(x))


def test_rms_is_torchs() -> None:
    x = torch.randn(4, 6, 5, 2) * 3 + 1
    want = nn.functional.rms_norm(x, (6, 5, 2), eps=1e-5)
    torch.testing.assert_close(RMSNorm(6)(x), want)


def test_one_value_is_refused() -> None:
    with pytest.raises(InputError, match=r"more than one value per channel; got shape \(1, 3, 1\)"):
        BatchNorm(3)(torch.randn(1, 3, 1))
    with pytest.raises(InputError, match=r"more than one value per group; got shape \(5, 3\)"):
        InstanceNorm(3)(torch.randn(5, 3))


def test_autocast_keeps_float32_statistics() -> None:
    norm = BatchNorm(3)
    linear = nn.Linear(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(linear(torch.randn(8, 4)))
    assert y.dtype == torch.bfloat16
    assert norm.get_buffer("running_var").dtype == torch.float32
