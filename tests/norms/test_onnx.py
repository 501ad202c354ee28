"""ONNX export in evaluation: the exported graph computes what the layer computes."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from norms import AdaptiveNorm, create, names

pytest.importorskip("onnxscript", reason="pip install normgauge[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install normgauge[onnx]")


def exported(module: nn.Module, x: torch.Tensor, path: Path) -> np.ndarray:
    """Return what onnxruntime computes from the exported module."""
    with warnings.catch_warnings():
        # torch's exporter and onnxscript warn about their own deprecated calls.
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return found


@pytest.mark.parametrize("name", names())
def test_a_norm_in_a_network(name: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 1), create(name, 6), nn.ReLU())
    for _ in range(2):
        model(torch.randn(5, 2, 4, 3) * 2 + 1)
    model.eval()
    x = torch.randn(3, 2, 4, 3) * 2 + 1
    np.testing.assert_allclose(exported(model, x, tmp_path / "m.onnx"), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("evaluation", ["running", "batch", "never"])
def test_a_gate_without_its_rule(evaluation: str, scale: float, tmp_path: Path) -> None:
    gate = AdaptiveNorm("batch", num_features=6, evaluation=evaluation)  # type: ignore[arg-type]  # parametrized
    gate(torch.randn(8, 6) * 5 + 1)
    model = nn.Sequential(gate.eval(), nn.ReLU())
    x = torch.randn(8, 6) * scale
    np.testing.assert_allclose(exported(model, x, tmp_path / "m.onnx"), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
