"""Lightning's Trainer with our loader and callback: the real package."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assessor import assess
from clients import AssessedBatch, AssessedLoader, AssessorClient, LoaderError

from .datasets import Pairs, two_sources
from .recording import Recorder, numbers_of_told

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Lightning's own imports warn of what its dependencies deprecate
    pl = pytest.importorskip("lightning.pytorch", reason="needs normgauge[training]")
    from lightning.pytorch.callbacks import ModelCheckpoint

    from clients import GateCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # few are meant, in a test
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning calls what torch deprecates
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec.*:FutureWarning"),
]

X, Y = two_sources()
DATASET = Pairs(X, Y)
PLAN = AssessedLoader(DATASET, 8, shuffle="batches").plan


class Module(pl.LightningModule):  # type: ignore[misc,name-defined]  # imported above, where it is there
    """Trains a recording model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Recorder(X.shape[1])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch.batch if isinstance(batch, AssessedBatch) else batch
        return nn.functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(callbacks: list[Any], folder: Path, **options: Any) -> Any:
    settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder}
    return pl.Trainer(**(settings | quiet | options), callbacks=callbacks)


def make(**options: Any) -> AssessedLoader:
    return AssessedLoader(DATASET, 8, plan=PLAN, shuffle="batches", seed=4, **options)


def order_of(loader: AssessedLoader, epochs: int) -> list[int]:
    return [decision.index for _ in range(epochs) for _, decision in loader.decisions()]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("plain", [False, True])
def test_the_module_is_told_about_its_batch(num_workers: int, plain: bool, tmp_path: Path) -> None:
    loader, module = make(num_workers=num_workers), Module()
    trainer([GateCallback(loader)], tmp_path).fit(module, loader.dataloader if plain else loader)
    assert numbers_of_told(module.model.told, X, PLAN) == order_of(make(), 2)


def test_a_trainer_that_runs_ahead_is_noticed(tmp_path: Path) -> None:
    """Lightning fetches a batch ahead where it does not know how many there are."""

    class Endless:
        def __init__(self, loader: AssessedLoader) -> None:
            self.loader = loader

        def __iter__(self) -> Any:
            return iter(self.loader)

    loader = make()
    with pytest.raises(LoaderError, match=r"the Trainer is 1 ahead of the batch .*: give it loader\.dataloader"):
        trainer([GateCallback(loader)], tmp_path).fit(Module(), Endless(loader))


# the resumed runs write their checkpoints elsewhere, on purpose
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_within_an_epoch_resumes(tmp_path: Path) -> None:
    """Lightning saves the loader's position with its own."""
    loader, module = make(), Module()

    def callbacks(loader: AssessedLoader, folder: Path) -> list[Any]:
        saving = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=5, save_top_k=-1)
        return [GateCallback(loader), saving]

    trainer(callbacks(loader, tmp_path / "whole"), tmp_path, enable_checkpointing=True).fit(module, loader)
    whole = numbers_of_told(module.model.told, X, PLAN)
    assert whole == order_of(make(), 2)
    for step in (5, 15):
        loader, again = make(num_workers=2), Module()
        saved = tmp_path / "whole" / f"step={step}.ckpt"
        rest = trainer(callbacks(loader, tmp_path / str(step)), tmp_path, enable_checkpointing=True)
        rest.fit(again, loader, ckpt_path=saved)
        assert numbers_of_told(again.model.told, X, PLAN) == whole[step:]


def test_the_callback_gives_the_rule_for_evaluation(tmp_path: Path) -> None:
    loader, module = make(), Module()
    trainer([GateCallback(loader)], tmp_path, max_epochs=1).fit(module, loader)
    assert module.model.gate.rule.cutoff == PLAN.rule["cutoff"]


def test_two_ranks_share_the_batches_and_one_assessment(service_url: str, tmp_path: Path) -> None:
    """Real processes: DDP over gloo, the loader made before the Trainer starts the process group."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with AssessorClient(service_url) as client:
        before = {info.id for info in client.list_assessments()}
        result = subprocess.run(
            [*command, "-m", "tests.clients.lightning_ranks", service_url, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,  # only so that one that hangs ends
            check=False,
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        )
        assert result.returncode == 0, result.stderr
        (made,) = [info for info in client.list_assessments() if info.id not in before]
        assert client.get_assessment(made.id).rows == 96
        client.delete_assessment(made.id)
    x, y = two_sources(96)
    assert (tmp_path / "plan.json").read_text() == assess(x, batch_size=8, labels=y).to_json()
