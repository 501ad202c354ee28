"""ONNX export in evaluation: the exported graph computes what the layer computes."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assessor import assess, make_plan, profile_array
from norms import (
    AdaptiveNorm,
    BatchGroupNorm,
    BatchLayerNorm,
    GhostBatchNorm,
    InferenceStatistics,
    adapt_input,
    create,
    names,
)

pytest.importorskip("onnxscript", reason="pip install normgauge[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install normgauge[onnx]")


def session_of(module: nn.Module, x: torch.Tensor, path: Path, **options: Any) -> Callable[[torch.Tensor], np.ndarray]:
    """Return the exported module as onnxruntime runs it."""
    with warnings.catch_warnings():
        # torch's exporter and onnxscript warn about their own deprecated calls.
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False, external_data=False, **options)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: torch.Tensor) -> np.ndarray:
        found: np.ndarray = session.run(None, {name: batch.numpy()})[0]
        return found

    return run


SKIPS = [("batch", "population"), ("kalman", "batch_layer"), ("l1_batch", "rms"), ("group", "none")]


class Side(nn.Module):
    """Gates side by side, so that one export serves them all."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([model(x) for model in self.models])


ANY_SIZE = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=1024)},)}


@pytest.mark.parametrize("name", names())
def test_a_norm_in_a_network_with_batches_of_any_size(name: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 1), create(name, 6), nn.ReLU())
    for _ in range(2):
        model(torch.randn(5, 2, 4, 3) * 2 + 1)
    model.eval()
    run = session_of(model, torch.randn(3, 2, 4, 3), tmp_path / "m.onnx", **ANY_SIZE)
    for size in (1, 3, 20):
        x = torch.randn(size, 2, 4, 3) * 2 + 1
        np.testing.assert_allclose(run(x), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_other_statistics_at_inference_and_other_skip_paths(tmp_path: Path) -> None:
    layers: list[nn.Module] = [
        BatchLayerNorm(6, inference=InferenceStatistics("current", "population", "population", "current")),
        GhostBatchNorm(6, examples_per_group=4, inference_weight=0.3),
        BatchGroupNorm(6, inference_weight=0.3),
        *(AdaptiveNorm(inner, skip, num_features=6) for inner, skip in SKIPS),
    ]
    model = Side(layers)
    model(torch.randn(8, 6, 4) * 2 + 1)
    model.eval()
    sizes = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=2, max=1024)},)}  # one sample has no score
    run = session_of(model, torch.randn(8, 6, 4), tmp_path / "m.onnx", **sizes)
    for size in (2, 8, 20):
        for scale in (1.0, 9.0):  # the rule flags the second
            x = torch.randn(size, 6, 4) * scale
            np.testing.assert_allclose(run(x), model(x).detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("evaluation", ["running", "batch", "never"])
def test_a_gate_without_its_rule(evaluation: str, tmp_path: Path) -> None:
    gate = AdaptiveNorm("batch", num_features=6, evaluation=evaluation)  # type: ignore[arg-type]  # parametrized
    gate(torch.randn(8, 6) * 5 + 1)
    model = nn.Sequential(gate.eval(), nn.ReLU())
    run = session_of(model, torch.randn(8, 6), tmp_path / "m.onnx")
    for scale in (1.0, 5.0):
        x = torch.randn(8, 6) * scale
        np.testing.assert_allclose(run(x), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


# Gates under "threshold", one a rule, with thresholds between the scores of the two batches below.
RULES: list[tuple[str, dict[str, Any]]] = [
    ("need", {}),
    ("heterogeneity", {}),
    ("gaussian", {}),
    ("published", {"threshold": 1.1}),
    ("published", {"threshold": 1.1, "published_exact": True}),
    ("scale_dispersion", {"threshold": 0.6}),
    ("location_share", {"threshold": 0.5}),
    ("bartlett", {"threshold": 60.0}),
    ("population_divergence", {"threshold": 0.5}),
]


def two_kinds() -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of alike features, and one of unlike ones, shifted."""
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(8, 3, 4, 2, generator=generator) + 0.3
    scales = torch.logspace(-1, 2, 24).reshape(3, 4, 2)
    return plain, torch.randn(8, 3, 4, 2, generator=generator) * scales + 20 * scales.sqrt()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_with_the_rule_of_each_measure(dtype: torch.dtype, tmp_path: Path) -> None:
    """The graph normalizes the batch that the plan flags and returns the other as it came."""
    plain, unlike = two_kinds()
    reference = profile_array(plain.numpy(), batch_sizes=[8])
    profile = profile_array(torch.cat([plain, unlike]).numpy(), batch_sizes=[8], reference=reference)
    plans = [make_plan(profile, method=method, **options) for method, options in RULES]
    assert [plan.normalize.tolist() for plan in plans] == [[False, True]] * len(plans)
    gates = [adapt_input(nn.Identity(), (3, 4, 2), rule=plan.rule, dtype=dtype) for plan in plans]
    model = Side(list(gates)).eval()
    run = session_of(model, plain.to(dtype), tmp_path / "m.onnx")
    rounding = 1e-4 if dtype == torch.float32 else 1e-9
    for batch, flagged in ((plain.to(dtype), False), (unlike.to(dtype), True)):
        found = run(batch)
        assert found.dtype == batch.numpy().dtype
        np.testing.assert_allclose(found, model(batch).numpy(), rtol=rounding, atol=rounding)
        assert [np.array_equal(one, batch.numpy()) for one in found] == [not flagged] * len(RULES)


def test_a_gate_with_batches_of_any_size(tmp_path: Path) -> None:
    """The rule's noise(B) is computed in the graph."""
    plain, unlike = two_kinds()
    model = adapt_input(nn.Identity(), (3, 4, 2), rule=assess(plain.numpy(), batch_size=8).rule).eval()
    sizes = {0: torch.export.Dim("batch", min=2, max=64)}
    run = session_of(model, plain, tmp_path / "m.onnx", dynamic_shapes=(sizes,))
    for size in (2, 3, 8):
        for batch in (plain[:size], unlike[:size]):
            np.testing.assert_allclose(run(batch), model(batch).numpy(), rtol=1e-4, atol=1e-4)
