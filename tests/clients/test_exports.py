"""The public names, frozen, and what importing them needs."""

import subprocess
import sys

import pytest

import clients

NAMES = [
    "AssessedBatch",
    "AssessedLoader",
    "AssessmentInfo",
    "AssessorClient",
    "AsyncAssessorClient",
    "Backoff",
    "ClientError",
    "DatasetError",
    "GateCallback",
    "JobCancelledError",
    "JobInfo",
    "LoaderError",
    "PlanMismatchWarning",
    "RandomSampleWarning",
    "SampleError",
    "ServiceError",
    "ServiceUnavailableError",
    "Shard",
    "ShardInfo",
    "StateError",
    "standardize_input",
]

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.split(".")[0])
sys.meta_path.insert(0, Hidden())
"""


def test_names_are_frozen() -> None:
    assert clients.__all__ == NAMES
    for name in NAMES:
        assert getattr(clients, name).__name__ == name
        assert name in dir(clients)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'clients' has no attribute 'Loader'"):
        assert clients.Loader


def run_without(hidden: list[str], code: str) -> str:
    script = HIDE.format(hidden=hidden) + code
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


def test_the_client_needs_no_torch() -> None:
    code = "from clients import AssessorClient, ServiceError; print(AssessorClient('http://a.test'))"
    assert run_without(["torch", "norms"], code) == "AssessorClient('http://a.test')\n"


def test_missing_packages_name_the_command() -> None:
    answer = run_without(["torch"], "from clients import AssessedLoader")
    assert "clients.AssessedLoader needs torch, which is not installed: pip install 'normgauge[torch]'" in answer
    answer = run_without(["httpx"], "import clients; clients.AssessorClient")
    assert "clients.AssessorClient needs httpx, which is not installed: pip install 'normgauge[client]'" in answer
    answer = run_without(["xxhash"], "import clients; clients.AssessorClient")
    assert "clients.AssessorClient needs xxhash" in answer


def test_assessing_here_needs_no_httpx() -> None:
    code = """
import torch, clients
x = torch.utils.data.TensorDataset(torch.randn(20, 3))
print(len(clients.AssessedLoader(x, 5).plan))
"""
    assert run_without(["httpx"], code) == "4\n"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import clients, sys; print([m for m in ('torch', 'httpx', 'norms', 'numpy') if m in sys.modules])"
    assert run_without([], code) == "[]\n"
