import pytest
import torch

from norms import BatchNorm, OptionError, UnknownNormError, create, names
from norms.registry import accepted


def test_create_makes_the_registered_class() -> None:
    norm = create("batch", 3, eps=0.5)
    assert isinstance(norm, BatchNorm)
    assert norm.eps == 0.5


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNormError, match=r"among: batch, layer, .*none; got 'bacth'"):
        create("bacth", 3)


def test_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="'layer' among: eps, affine, device, dtype; got momentum"):
        create("layer", 3, momentum=0.1)


@pytest.mark.parametrize("name", names())
def test_every_name_takes_the_common_options(name: str) -> None:
    options = {"eps": 1e-3, "affine": False, "device": "cpu", "dtype": torch.float64}
    norm = create(name, 4, **options)
    assert not list(norm.parameters())
    assert {b.dtype for b in norm.buffers() if b.is_floating_point()} <= {torch.float64}
    assert norm.eps == 1e-3
    assert set(options) <= set(accepted(name))


@pytest.mark.parametrize("name", names())
def test_no_features_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="expected num_features >= 1; got 0"):
        create(name, 0)


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError, match="expected eps >= 0; got -1"):
        create("batch", 3, eps=-1)
    with pytest.raises(OptionError, match=r"expected momentum in \[0, 1\] or None; got 2"):
        create("batch", 3, momentum=2)
    with pytest.raises(OptionError, match="num_groups to divide num_features = 6; got 4: 3 would do"):
        create("group", 6, num_groups=4)
