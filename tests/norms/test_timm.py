"""Conversion of timm's own models, weights random: ResNet, ConvNeXt, EfficientNet and ViT."""

from typing import Any

import pytest
import torch
from torch import nn

from norms import carry_priors, convert, names, set_decision
from tests.norms.timm_import import import_timm

# model, options, side of the images, norms in it
MODELS: list[tuple[str, dict[str, Any], int, int]] = [
    ("resnet18", {}, 64, 20),
    ("resnetv2_50", {}, 64, 49),
    ("convnext_atto", {}, 64, 17),
    ("efficientnet_b0", {}, 64, 49),
    ("vit_tiny_patch16_224", {"img_size": 32, "depth": 4}, 32, 9),
]


@pytest.fixture(scope="module")
def timm() -> Any:
    return import_timm()


def rows(model: nn.Module) -> list[str]:
    return [f"{path}: {type(module).__module__}.{type(module).__name__}" for path, module in model.named_modules()]


@pytest.mark.parametrize(("name", "options", "side", "n_norms"), MODELS, ids=[case[0] for case in MODELS])
@pytest.mark.parametrize("kind", ["batch", "group"])
def test_convert_run_revert(timm: Any, name: str, options: dict[str, Any], side: int, n_norms: int, kind: str) -> None:
    model: nn.Module = timm.create_model(name, num_classes=5, **options).eval()
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        before, want = rows(model), model(x)
        conversion = convert(model, kind, own=True, inplace=True)
        assert len(conversion.report) == n_norms
        assert conversion.changed == n_norms
        found = conversion.model(x)
        assert found.isfinite().all()
        if kind == "batch" and name in (
            "resnet18",
            "resnetv2_50",
            "efficientnet_b0",
        ):  # batch norms all: the same function
            torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
        else:
            assert not torch.allclose(found, want, rtol=1e-3)
        conversion.revert()
        assert rows(model) == before
        assert torch.equal(model(x), want)


@pytest.mark.parametrize("prior", ["sampled", "moments"])
def test_priors_run_through_a_resnet(timm: Any, prior: str) -> None:
    """Every Kalman norm but the first has one: through blocks, their sums and their projections."""
    norms = convert(timm.create_model("resnet18", num_classes=5), "kalman", examples_per_group=2).model
    carried = carry_priors(norms, prior=prior)
    assert [row.path for row in carried.report if not row.changed] == ["bn1"]
    assert len(carried.report) == 20
    x = torch.randn(4, 3, 32, 32)
    torch.autograd.backward(carried.model(x).square().sum())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in norms.parameters())
    with torch.no_grad():
        torch.testing.assert_close(carried.model.eval()(x), norms.eval()(x))


@pytest.mark.parametrize("kind", names())
def test_every_norm_in_a_resnet_behind_gates(timm: Any, kind: str) -> None:
    model = timm.create_model("resnet18", num_classes=5)
    gated = convert(model, kind, adaptive=True, inplace=True)
    assert gated.changed == 20
    x = torch.randn(4, 3, 64, 64)
    for normalize in (True, False):
        assert set_decision(model, normalize) == 20
        assert model(x).isfinite().all()
    gated.revert()
    assert rows(model) == rows(timm.create_model("resnet18", num_classes=5))
