"""The Helm chart as it was last rendered: of this chart, valid for Kubernetes, and confined."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.serving import CUT_TIMEOUT_S
from app.settings import unknown_variables

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    """deploy/helm/check.py."""
    spec = importlib.util.spec_from_file_location("check_chart", ROOT / "deploy" / "helm" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def manifests(checker: ModuleType) -> list[dict[str, Any]]:
    """The rendered manifests."""
    return list(yaml.safe_load_all(checker.RENDERED.read_text()))


def pods(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the specifications of all pods."""
    return [each["spec"]["template"]["spec"] for each in manifests if each["kind"] in ("Deployment", "Job")]


def test_rendered_from_this_chart(checker: ModuleType) -> None:
    first = checker.RENDERED.read_text().splitlines()[0]
    assert first == f"# chart sha256:{checker.chart_digest()}", "run python deploy/helm/check.py"


def test_rendering_gives_what_is_committed(checker: ModuleType, manifests: list[dict[str, Any]]) -> None:
    pytest.importorskip("helm_python", reason="pip install helm-python-sdk (85 MB)")
    assert checker.render({}) == manifests


@pytest.mark.parametrize("version", ["1.27.0", "1.34.0"])
def test_valid_for_kubernetes(manifests: list[dict[str, Any]], version: str) -> None:
    kinds = {manifest["kind"] for manifest in manifests}
    assert kinds == {"Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_wrong_manifest_is_found(manifests: list[dict[str, Any]]) -> None:
    wrong = manifests[0] | {"speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.34.0", strict=True)


def test_pods_are_confined(manifests: list[dict[str, Any]]) -> None:
    assert len(pods(manifests)) == 2
    for pod in pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


def test_user_is_the_images(manifests: list[dict[str, Any]]) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert user is not None
    for pod in pods(manifests):
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == tuple(
            map(int, user.groups())
        )


def test_environment_names_settings_and_holds_no_secret(manifests: list[dict[str, Any]]) -> None:
    for pod in pods(manifests):
        for container in pod["containers"]:
            variables = {entry["name"]: entry["value"] for entry in container["env"]}
            assert unknown_variables(variables) == []
            assert "NORMGAUGE_DATABASE_URL" not in variables
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert any(variables["NORMGAUGE_DATABASE_URL_FILE"].startswith(path) for path in mounted)


def test_probes_and_time_to_go_down(manifests: list[dict[str, Any]]) -> None:
    pod = pods(manifests)[0]
    (container,) = pod["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    needed_s = float(variables["NORMGAUGE_SHUTDOWN_DELAY_S"]) + float(variables["NORMGAUGE_SHUTDOWN_TIMEOUT_S"])
    assert pod["terminationGracePeriodSeconds"] > needed_s + CUT_TIMEOUT_S


def test_versions_are_the_packages(checker: ModuleType) -> None:
    chart = yaml.safe_load((checker.CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert chart["appVersion"] == version.group(1)
