"""Does every registered layer learn? Test accuracy by layer, data, model and batch size, with its spread over seeds.

python -m benchmarks.layers_train [--quick] [--seeds 5] [--jobs 2] [--write docs/layers_train.md]

Ends with status 1 where a layer has not learned: where its mean accuracy is not above the share of the largest class
by a quarter of what is left to 1.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import norms

BATCH_SIZES = (2, 4, 8, 32)
STEPS = {"digits": 400, "wine": 250, "breast_cancer": 250}
LOADERS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
}
MODELS = {"digits": "residual net", "wine": "MLP", "breast_cancer": "MLP"}
LEARNING_RATE = {"digits": 6e-3, "wine": 3e-3, "breast_cancer": 3e-3}
# Ghosts that fit into these batches; groups of more than the usual two values, which an MLP does not learn with.
OPTIONS: dict[str, dict[str, int]] = {"ghost_batch": {"examples_per_group": 4}, "group": {"num_groups": 4}}
HEADING = """# Do the layers learn?

Written by `python -m benchmarks.layers_train{arguments}`: {seeds} seeds, mean test accuracy (lowest-highest), in %.
Digits: 400 steps of a residual net with 5 norms; wine and breast cancer: 250 steps of an MLP with two hidden layers
of 32, features standardized. So a larger batch sees more samples. Adam, learning rate 0.006 (digits) and 0.003 at every
batch size; a quarter of the samples for the test, which runs in batches of B. `ghost_batch` has groups of 4 samples,
`group` has 4 groups, `mean_only` has bounded weights, `kalman` has priors and a gain of 0.05, on digits 0.9 below 32
samples; `population` is calibrated before training. What is odd is explained in [norms.md](norms.md).
"""


class Run(NamedTuple):
    """One training: a registered layer on a dataset, the samples a batch, the seed."""

    layer: str
    dataset: str
    batch_size: int
    seed: int


class Block(nn.Module):
    """Two 3x3 convolutions with norms, and a projection beside them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.beside = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(two convolutions of x + its projection)."""
        inner = F.relu(self.norm1(self.first(x)))
        return F.relu(self.norm2(self.second(inner)) + self.beside(x))


def residual_net() -> nn.Module:
    """Return a network for (N, 1, 8, 8) with 10 outputs."""
    stem = [nn.Conv2d(1, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(*stem, Block(8, 8, 1), Block(8, 16, 2), *pool)


def perceptron(features: int, classes: int) -> nn.Module:
    """Return an MLP with two hidden layers of 32."""
    first = [nn.Linear(features, 32), nn.BatchNorm1d(32), nn.ReLU()]
    second = [nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.Linear(32, classes))


def load(dataset: str, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training and test samples and their labels: x_train, y_train, x_test, y_test."""
    x, y = LOADERS[dataset](return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y)
    one_pixel = dataset == "digits"  # pixels share one scale, the features of the others do not
    mean, std = (x.mean(), x.std()) if one_pixel else (x.mean(0), x.std(0))
    scaled = [torch.tensor((part - mean) / std, dtype=torch.float32) for part in (x, x_test)]
    if one_pixel:
        scaled = [part.reshape(-1, 1, 8, 8) for part in scaled]
    return scaled[0], torch.tensor(y), scaled[1], torch.tensor(y_test)


def build(run: Run, x: Tensor, classes: int) -> nn.Module:
    """Return the model with its norms replaced by the layer of the run."""
    start = residual_net() if run.dataset == "digits" else perceptron(x.shape[1], classes)
    options: dict[str, Any] = {**OPTIONS.get(run.layer, {})}
    if run.layer == "kalman":
        options["gain"] = 0.9 if run.dataset == "digits" and run.batch_size < 32 else 0.05
    model = norms.convert(start, run.layer, own=True, **options).model
    if run.layer == "kalman":
        return norms.carry_priors(model).model
    if run.layer == "mean_only":
        norms.bounded_weight_norm(model)
    if run.layer == "population":
        norms.calibrate(model, torch.split(x, 64)[:4])
    return model


def batches(samples: int, batch_size: int) -> Iterator[Tensor]:
    """Yield the indices of full batches, shuffled anew each epoch, without end."""
    while True:
        yield from torch.split(torch.randperm(samples)[: samples // batch_size * batch_size], batch_size)


def accuracy(run: Run) -> float:
    """Return the test accuracy after the training."""
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    x, y, x_test, y_test = load(run.dataset, run.seed)
    model = build(run, x, int(y.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE[run.dataset])
    for chosen in islice(batches(len(x), run.batch_size), STEPS[run.dataset]):
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x[chosen]), y[chosen]))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = [
            (model(part).argmax(1) == y_test[i * run.batch_size :][: len(part)]).sum()
            for i, part in enumerate(torch.split(x_test, run.batch_size))
        ]
    return float(sum(right)) / len(x_test)


def runs(seeds: int, layers: tuple[str, ...], batch_sizes: tuple[int, ...]) -> Iterator[Run]:
    """Yield all trainings, the long ones first."""
    for batch_size in batch_sizes:
        for dataset in LOADERS:
            for layer in layers:
                if layer == "instance" and dataset != "digits":
                    continue  # an MLP has one value a channel
                yield from (Run(layer, dataset, batch_size, seed) for seed in range(seeds))


def timed(run: Run) -> tuple[Run, float]:
    """Return the run and its accuracy."""
    return run, accuracy(run)


def measure(planned: list[Run], jobs: int) -> dict[Run, float]:
    """Return the accuracy of every run; a progress bar shows how far it is."""
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        return dict(tqdm(pool.imap_unordered(timed, planned), total=len(planned), unit="run"))


def tables(results: dict[Run, float]) -> str:
    """Return a table in Markdown for each dataset: a row a layer, a column a batch size."""
    sizes = sorted({run.batch_size for run in results})
    parts = []
    for dataset in LOADERS:
        lines = [f"## {dataset}, {MODELS[dataset]}", "", "| layer | " + " | ".join(f"B = {b}" for b in sizes) + " |"]
        lines.append("|---" * (len(sizes) + 1) + "|")
        for layer in dict.fromkeys(run.layer for run in results if run.dataset == dataset):
            cells = []
            for size in sizes:
                found = [a for run, a in results.items() if run[:3] == (layer, dataset, size)]
                cells.append(f"{100 * np.mean(found):.1f} ({100 * min(found):.0f}-{100 * max(found):.0f})")
            lines.append(f"| `{layer}` | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def failures(results: dict[Run, float]) -> list[str]:
    """Return what has not learned: layer, dataset, batch size, mean accuracy and what it should have been."""
    found = []
    for layer, dataset, size in sorted({run[:3] for run in results}):
        mean = float(np.mean([a for run, a in results.items() if run[:3] == (layer, dataset, size)]))
        labels = np.bincount(LOADERS[dataset](return_X_y=True)[1])
        largest = labels.max() / labels.sum()
        needed = largest + (1 - largest) / 4
        if mean < needed:
            found.append(f"{layer} on {dataset} at B = {size}: {mean:.3f} < {needed:.3f}")
    return found


def main() -> int:
    """Print the tables and what has not learned; return how the program ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, batch sizes 4 and 32")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--layers", nargs="+", default=list(norms.names()), choices=norms.names())
    parser.add_argument("--write", type=Path, help="a Markdown file for heading and tables")
    options = parser.parse_args()
    seeds = 1 if options.quick else options.seeds
    sizes = (4, 32) if options.quick else BATCH_SIZES
    start = time.perf_counter()
    results = measure(list(runs(seeds, tuple(options.layers), sizes)), options.jobs)
    # The pool returns runs as they end; the tables are in the order of the plan.
    results = {run: results[run] for run in runs(seeds, tuple(options.layers), sizes)}
    text = tables(results)
    print(text)
    print(f"{len(results)} runs, {time.perf_counter() - start:.0f} s")
    failed = failures(results)
    print("\n".join(failed) or "every layer learned")
    if options.write:
        arguments = " --quick" if options.quick else f" --seeds {seeds}"
        verdict = "Not learned: " + "; ".join(failed) if failed else "Every layer learned"
        limit = "learned: above the share of the largest class by a quarter of what is left to 1"
        heading = HEADING.format(arguments=arguments, seeds=seeds)
        options.write.write_text(f"{heading}\n{verdict}\n({limit}).\n\n{text}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
