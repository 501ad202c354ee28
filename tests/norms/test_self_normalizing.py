import pytest
import torch
from torch import Tensor, nn

from norms import OptionError, adapt_input, create, self_normalize


def test_32_layers_keep_mean_0_and_variance_1() -> None:
    blocks = [nn.Sequential(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.05)) for _ in range(32)]
    model = self_normalize(nn.Sequential(*blocks)).model
    x = torch.randn(512, 256)
    with torch.no_grad():
        for block in model.children():
            x = block(x)
            assert abs(float(x.mean())) < 0.1
            assert abs(float(x.var()) - 1) < 0.1


class Special(nn.BatchNorm1d):
    """A norm that may do more."""


def test_what_is_swapped() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Dropout2d(0.3),
        nn.Sequential(nn.Linear(4, 4), create("batch_layer", 4), nn.Sigmoid()),
        nn.LayerNorm((4, 4)),
        Special(4),
    ).eval()
    done = self_normalize(model)
    kinds = [type(module).__name__ for module in done.model.modules()][1:]
    assert kinds == [
        "Conv2d",
        "Identity",
        "SELU",
        "FeatureAlphaDropout",
        "Sequential",
        "Linear",
        "Identity",
        "Sigmoid",
        "Identity",
        "Special",
    ]
    assert done.model.get_submodule("3").p == 0.3
    assert not any(module.training for module in done.model.modules())
    assert isinstance(model[1], nn.GroupNorm)
    lines = str(done).splitlines()
    assert lines[1].split()[:4] == ["0", "Conv2d", "Conv2d", "yes"]
    assert lines[1].endswith("drawn anew, variance 1/18")
    assert lines[-1].endswith("no       a subclass of BatchNorm1d, which may do more than normalize")


@pytest.mark.parametrize(
    ("layer", "shape", "fan_in"),
    [
        (nn.Linear(300, 200), (2000, 300), 300),
        (nn.Conv1d(64, 200, 5, groups=2), (200, 64, 20), 160),
        (nn.ConvTranspose1d(100, 80, 4, stride=2), (100, 100, 40), 200),
    ],
)
def test_outputs_have_variance_1(layer: nn.Module, shape: tuple[int, ...], fan_in: int) -> None:
    model = self_normalize(layer)
    assert model.report[0].reason == f"drawn anew, variance 1/{fan_in}"
    with torch.no_grad():
        y: Tensor = model.model(torch.randn(shape))
    inner = y[..., 4:-4] if y.ndim == 3 else y  # the border of a transposed convolution sums over less
    assert float(inner.var()) == pytest.approx(1, abs=0.1)
    assert not model.model.get_parameter("bias").any()


def test_where_inplace_and_generator() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.ReLU())
    done = self_normalize(
        model,
        inplace=True,
        where=lambda path, module: path != "2",
        generator=torch.Generator().manual_seed(1),
    )
    assert done.model is model
    assert isinstance(model[1], nn.SELU)
    assert isinstance(model[2], nn.ReLU)
    assert done.report[2].reason == "left out by where"
    again = self_normalize(nn.Linear(3, 3), generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.model.get_parameter("weight"), model.get_parameter("0.weight"))


def test_shared_modules_and_the_front_gate() -> None:
    relu = nn.ReLU()
    model = adapt_input(nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu), 2)
    done = self_normalize(model).model
    assert done.get_submodule("model.1") is done.get_submodule("model.3")
    assert type(done.get_submodule("gate.norm")).__name__ == "BatchNorm"


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(OptionError, match="linear or convolution layers; got ReLU without any"):
        self_normalize(nn.ReLU())
