"""What can be read from Dockerfile and compose file without an engine; docs/operations.md has the rest."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings, unknown_variables

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in order, comments left out and continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def last_stage() -> dict[str, list[str]]:
    """Return the arguments of each instruction of the last stage."""
    found = instructions()
    start = max(i for i, (word, _) in enumerate(found) if word == "FROM")
    stage: dict[str, list[str]] = {}
    for word, rest in found[start:]:
        stage.setdefault(word, []).append(rest)
    return stage


@pytest.fixture
def service() -> dict[str, Any]:
    """The compose file's one service."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert list(compose["services"]) == ["service"]
    return dict(compose["services"]["service"])


def test_two_stages_of_a_slim_image() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert bases == ["python:3.12-slim"] * 2
    assert any("--from=build" in rest for rest in last_stage()["COPY"])


def test_runs_as_a_numeric_user_that_is_not_root() -> None:
    (user,) = last_stage()["USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert f"--owner={user.partition(':')[0]}" in last_stage()["RUN"][0]


def test_installs_the_service_under_constraints_and_no_torch() -> None:
    steps = [rest for word, rest in instructions() if word == "RUN"]
    install = next(step for step in steps if "pip --python" in step)
    assert '"normgauge[app,fast,report] @' in install
    assert "--constraint constraints.txt" in install
    for step in steps:
        assert not re.search(r"\[(\w+,)*(torch|demo|dev)", step)
        assert "torch" not in step


def test_copies_exactly_what_the_wheel_needs() -> None:
    copied = {
        name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    }
    assert copied == {"pyproject.toml", "README.md", "constraints.txt", "assessor", "app", "norms", "clients"}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == copied
    assert all((ROOT / name).exists() for name in copied)


def test_probes_itself_and_serves() -> None:
    stage = last_stage()
    (probe,) = stage["HEALTHCHECK"]
    assert "/readyz" in probe
    assert "CMD [" in probe
    assert stage["ENTRYPOINT"] == ['["normgauge"]']
    assert stage["CMD"] == ['["serve"]']
    assert stage["EXPOSE"] == ["8000"]
    assert stage["VOLUME"] == ["/data"]


def test_environment_names_settings() -> None:
    (environment,) = last_stage()["ENV"]
    variables = dict(item.split("=", 1) for item in environment.split())
    assert unknown_variables(variables) == []
    assert variables["NORMGAUGE_HOST"] == "0.0.0.0"
    assert variables["NORMGAUGE_PORT"] == "8000"
    assert Settings(database_url=variables["NORMGAUGE_DATABASE_URL"]).database_url == "sqlite:////data/normgauge.db"


def test_compose_keeps_the_port_to_this_machine(service: dict[str, Any]) -> None:
    assert service["ports"] == ["127.0.0.1:8000:8000"]


def test_compose_confines_the_service(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert "user" not in service  # the image's own


def test_compose_keeps_the_data(service: dict[str, Any]) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert service["volumes"] == ["data:/data"]
    assert "data" in compose["volumes"]


def test_compose_probe_is_python_that_compiles(service: dict[str, Any]) -> None:
    kind, program, flag, code = service["healthcheck"]["test"]
    assert (kind, program, flag) == ("CMD", "python", "-c")
    compile(code, "healthcheck", "exec")
    assert "/readyz" in code
