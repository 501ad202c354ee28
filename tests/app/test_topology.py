"""The profile "cluster" of docker-compose.yml as plain processes: PostgreSQL, an S3 server, two instances, the proxy.

The instances have the settings that the compose file gives them, with the addresses of this machine, and the proxy its
own configuration. Without nginx on the machine the test of the proxy is skipped.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml

from app.auth.keys import Keys
from app.settings import Settings
from app.storage import Store
from assessor import assess
from assessor.sources.backends import make_s3
from tests.app.jobs import ask, wait
from tests.app.processes import Process, served
from tests.app.support import create, npy, rows
from tests.object_stores import S3, moto

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
START_S = 120.0


class Topology(NamedTuple):
    """What runs: the instances, the store, and a key."""

    urls: list[str]
    processes: list[Process]
    s3: S3
    headers: dict[str, str]


def node_environment(database_url: str, s3: S3, folder: Path) -> dict[str, str]:
    """Return the environment of node1 in the compose file, with files and addresses of this machine."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    secrets = {"database_url": database_url, "store_access_key_id": "test", "store_secret_access_key": "test"}
    for name in compose["services"]["node1"]["secrets"]:
        (folder / name).write_text(secrets[name] + "\n")
    given = compose["services"]["node1"]["environment"]
    values = {name: value.replace("/run/secrets", str(folder)) for name, value in given.items()}
    return values | {
        "NORMGAUGE_INGEST_ENDPOINT": s3.endpoint,
        "NORMGAUGE_SHUTDOWN_DELAY_S": "0",
        "NORMGAUGE_TRUSTED_PROXIES": "127.0.0.1",
    }


@pytest.fixture
def topology(postgresql: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """Two instances on one database, which `migrate` has made, and a store with the bucket "shards".

    Each test has its own: one of them ends an instance.
    """
    folder = tmp_path_factory.mktemp("cluster")
    database_url = postgresql()
    with moto() as s3:
        httpx.put(f"{s3.endpoint}/shards", timeout=60).raise_for_status()
        environment = node_environment(database_url, s3, folder)
        upgraded = ["-m", "app", "db", "upgrade"]
        subprocess.run([sys.executable, *upgraded], env=os.environ | environment, check=True)
        store = Store(Settings(database_url=database_url))
        _, token = Keys(store.engine).create("cluster")
        store.close()
        with served(environment=environment) as (url1, node1), served(environment=environment) as (url2, node2):
            yield Topology([url1, url2], [node1, node2], s3, {"Authorization": f"Bearer {token}"})


@contextmanager
def proxied(urls: list[str], folder: Path) -> Iterator[str]:
    """Run nginx under the compose file's configuration before these instances; give its URL."""
    assert NGINX is not None
    with socket.socket() as holder:
        # Held to the end, so that no one else is given the port; nginx may share it.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        text = (ROOT / "deploy" / "compose" / "nginx.conf").read_text()
        for name, url in zip(("node1:8000", "node2:8000"), urls, strict=True):
            assert text.count(f"server {name} ") == 1
            text = text.replace(name, url.removeprefix("http://"))
        text = text.replace("listen 8080;", f"listen 127.0.0.1:{port} reuseport;").replace("/tmp/", f"{folder}/")
        text = text.replace("/dev/stdout", f"{folder}/access.log")
        configuration = folder / "nginx.conf"
        configuration.write_text(text)
        subprocess.run([NGINX, "-t", "-q", "-c", str(configuration)], check=True)
        process = subprocess.Popen([NGINX, "-c", str(configuration), "-g", "daemon off;"])
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline:
                try:
                    httpx.get(f"{url}/livez", timeout=60).raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.02)
            yield url
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=START_S)


def test_instances_share_assessments_and_jobs(topology: Topology) -> None:
    x = rows(300)
    part = npy(x[200:])
    make_s3("shards", topology.s3.settings).put("a/part-2.npy", part)
    with (
        httpx.Client(base_url=topology.urls[0], headers=topology.headers, timeout=30) as first,
        httpx.Client(base_url=topology.urls[1], headers=topology.headers, timeout=30) as second,
    ):
        path = create(first)
        assert first.put(f"{path}/shards/0", content=npy(x[:100])).status_code == 201
        assert second.put(f"{path}/shards/1", content=npy(x[100:200])).status_code == 201
        job = ask(first, path, shards=[{"uri": "s3://shards/a/part-2.npy", "index": 2, "first_row": 200}])
        assert wait(second, job)["state"] == "succeeded"
        expected = assess(x, batch_size=4).to_json()
        assert [client.get(f"{path}/plan").text for client in (first, second)] == [expected, expected]
        assert first.get("/readyz").status_code == 200


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")
def test_through_the_proxy(topology: Topology, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # its workers are another user's
    x = rows(100_000, features=16)
    body = npy(x)
    with (
        proxied(topology.urls, tmp_path) as url,
        httpx.Client(base_url=url, headers=topology.headers, timeout=30) as client,
    ):
        assert client.get("/metrics").status_code == 404
        answered = client.get("/v1/assessments?secret=1", headers={"X-Request-ID": "of-the-client"})
        assert answered.headers["x-request-id"] == "of-the-client"
        path = create(client)

        # The body arrives while it is sent: half of it is at an instance before the rest has left.
        half_seen = threading.Event()

        def pieces() -> Iterator[bytes]:
            yield body[: len(body) // 2]
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline:
                texts = [httpx.get(f"{node}/metrics", timeout=60).text for node in topology.urls]
                if any("normgauge_http_requests_running 2.0" in text for text in texts):
                    half_seen.set()
                    break
                time.sleep(0.02)
            yield body[len(body) // 2 :]

        response = client.put(f"{path}/shards/0", content=pieces(), headers={"Content-Type": "application/x-npy"})
        assert response.status_code == 201, response.text
        assert half_seen.is_set()
        assert client.get(f"{path}/plan").text == assess(x, batch_size=4).to_json()

        # Events come through as they are sent.
        make_s3("shards", topology.s3.settings).put("b.npy", npy(rows(8)))
        other = create(client)
        job = ask(client, other, shards=[{"uri": "s3://shards/b.npy"}])
        with client.stream("GET", f"{job}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert any(line.startswith("data:") for line in stream.iter_lines())
        assert wait(client, job)["state"] == "succeeded"

        # One instance goes down; the calls go on.
        topology.processes[0].send_signal(signal.SIGTERM)
        topology.processes[0].wait(timeout=START_S)
        assert [client.get(path).status_code for _ in range(10)] == [200] * 10
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert {"of-the-client"} < {line["request_id"] for line in lines}
    assert "secret" not in json.dumps(lines)
