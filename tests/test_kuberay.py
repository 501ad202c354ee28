"""The manifests of jobs on clusters: valid for Kubernetes, confined, and with commands that are understood."""

import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.arguments import build_parser
from app.targets import check_places

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kuberay"


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def as_job(template: dict[str, Any]) -> dict[str, Any]:
    """Return a Job of a pod template, which Kubernetes's own schemas know; those of Ray are not among them."""
    spec = template["spec"] | {"restartPolicy": "Never"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": {"spec": spec}}}


def jobs() -> list[dict[str, Any]]:
    cluster = load("rayjob.yaml")[0]["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [*(as_job(group["template"]) for group in groups), *load("pipeline.yaml")]


@pytest.mark.parametrize("version", ["1.27.0", "1.34.0"])
def test_pods_are_valid_and_confined(version: str) -> None:
    assert len(jobs()) == 3
    for manifest in [*jobs(), load("rayjob.yaml")[1]]:
        kubernetes_validate.validate(manifest, version, strict=True)
    for manifest in jobs():
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_commands_are_understood() -> None:
    entrypoint = shlex.split(load("rayjob.yaml")[0]["spec"]["entrypoint"])
    assert entrypoint[0] == "normgauge"
    step = load("pipeline.yaml")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    for command, engine in ((entrypoint[1:], "ray"), (step, "processes")):
        arguments = build_parser().parse_args(command)
        assert arguments.engine == engine
        assert arguments.save == "s3://train/plan.arrow"
        assert not arguments.quiet  # the pods' logs say how far it is
        check_places([arguments.save], arguments.paths)


def test_versions_are_those_of_the_project() -> None:
    [ray] = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert load("rayjob.yaml")[0]["spec"]["rayClusterSpec"]["rayVersion"] == ray
    assert f"FROM rayproject/ray:{ray}-" in (FOLDER / "Dockerfile").read_text()
