"""A norm inside an LSTM cell."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from norms import InferenceStatistics, create
from tests.norms.reference import batch_layer


class NormedCell(nn.Module):
    """LSTM cell with a norm on the preactivations of all four gates."""

    def __init__(self, inputs: int, hidden: int, name: str) -> None:
        super().__init__()
        self.from_input = nn.Linear(inputs, 4 * hidden)
        self.from_hidden = nn.Linear(hidden, 4 * hidden, bias=False)
        self.norm = create(name, 4 * hidden)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return hidden and cell state after x, shapes (N, hidden)."""
        hidden, cell = state
        gates = self.norm(self.from_input(x) + self.from_hidden(hidden))
        i, f, g, o = gates.chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


def last_hidden(cell: NormedCell, x: Tensor) -> Tensor:
    """Return the hidden state after the sequences x, shape (N, steps, inputs)."""
    size = cell.from_hidden.in_features
    state = x.new_zeros(len(x), size), x.new_zeros(len(x), size)
    for step in x.unbind(1):
        state = cell(step, state)
    return state[0]


def test_the_steps_are_the_formula() -> None:
    cell = NormedCell(3, 2, "batch_layer").double()
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    w, u, b = (p.detach().numpy() for p in (cell.from_input.weight, cell.from_hidden.weight, cell.from_input.bias))
    h = c = np.zeros((4, 2))
    for step in x.numpy().transpose(1, 0, 2):
        gates = batch_layer(step @ w.T + b + h @ u.T, np.ones(8), np.zeros(8))
        i, f, g, o = np.split(gates, 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
    np.testing.assert_allclose(last_hidden(cell, x).detach().numpy(), h, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["batch_layer", "batch", "layer", "l1_batch", "kalman", "ghost_batch"])
def test_it_learns_through_time(name: str) -> None:
    """The sign of the first value, asked for after three steps."""
    cell, head = NormedCell(2, 8, name), nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.05)
    for _ in range(200):
        x = torch.randn(32, 3, 2)
        loss = nn.functional.binary_cross_entropy_with_logits(
            head(last_hidden(cell, x))[:, 0], (x[:, 0, 0] > 0).float()
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    cell.eval()
    x = torch.randn(256, 3, 2)
    right = (head(last_hidden(cell, x))[:, 0] > 0) == (x[:, 0, 0] > 0)
    assert right.float().mean() > 0.7  # 0.5 by chance, with a standard deviation of 0.03


def test_a_batch_of_one_with_each_choice_of_statistics() -> None:
    cell = NormedCell(2, 4, "batch_layer")
    last_hidden(cell, torch.randn(8, 5, 2))
    cell.eval()
    for choice in InferenceStatistics.choices():
        cell.norm.inference = choice  # type: ignore[assignment]  # an attribute of BatchLayerNorm
        assert last_hidden(cell, torch.randn(1, 5, 2)).isfinite().all()
