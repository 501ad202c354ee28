"""Both clients against scripted answers: errors, retries, keys."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from assessor import SettingError, assess
from clients import AssessorClient, AsyncAssessorClient, Backoff, ServiceUnavailableError
from clients.compression import content_digest
from clients.errors import AuthenticationError, RemoteGapError

URL = "http://user:password@service.test:81/base"
KEY = "ng_verysecret"
SHARD = {
    "index": 0,
    "first_row": 0,
    "rows": 2,
    "digest": "blake3:00",
    "size_bytes": 9,
    "sample_shape": [3],
    "dtype": "float32",
    "labelled": False,
}
QUICK = Backoff(retries=2, first_delay_s=0.001, longest_delay_s=0.002)
Script = Callable[[httpx.Request], httpx.Response]
Act = Callable[[Any], Any]


def run_sync(script: Script, act: Act, **options: Any) -> Any:
    with AssessorClient(URL, KEY, httpx.MockTransport(script), **{"retries": QUICK, **options}) as client:
        return act(client)


def run_async(script: Script, act: Act, **options: Any) -> Any:
    async def main() -> Any:
        settings = {"retries": QUICK, **options}
        async with AsyncAssessorClient(URL, KEY, httpx.MockTransport(script), **settings) as client:
            return await act(client)

    return asyncio.run(main())


@pytest.fixture(params=[run_sync, run_async])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def problem(code: str, status: int, **headers: str) -> httpx.Response:
    content = {"type": f"/problems/{code}", "title": "T", "status": status, "detail": "do this"}
    return httpx.Response(status, json=content, headers=headers)


class Scripted:
    """Answers with each item in turn; raises those that are errors. Keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = iter(answers)
        self.asked: list[tuple[str, str, bytes]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.raw_path.decode(), request.content))
        assert request.headers["authorization"] == f"Bearer {KEY}"
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_problem_becomes_its_class(run: Any) -> None:
    with pytest.raises(RemoteGapError, match="409 T: do this") as caught:
        run(Scripted(problem("missing-rows", 409)), lambda c: c.plan("a1"))
    assert caught.value.status == 409


def test_safe_requests_are_repeated(run: Any) -> None:
    answers = (httpx.ConnectError("refused"), httpx.Response(503), httpx.Response(200, json=SHARD))
    script = Scripted(*answers)
    info = run(script, lambda c: c.put_shard("a1", 0, np.zeros((2, 3), np.float32), first_row=0))
    assert info.rows == 2
    assert len(script.asked) == 3
    assert len(set(script.asked)) == 1
    assert script.asked[0][:2] == ("PUT", "/base/v1/assessments/a1/shards/0?first_row=0")


def test_an_assessment_that_keeps_nothing_is_repeated(run: Any) -> None:
    plan = assess(np.eye(4, dtype=np.float32), batch_size=2)
    script = Scripted(httpx.ReadError("cut"), httpx.Response(503), httpx.Response(200, text=plan.to_json()))
    assert run(script, lambda c: c.assess(np.eye(4, dtype=np.float32), batch_size=2)) == plan
    assert len(set(script.asked)) == 1


@pytest.mark.parametrize(
    "first",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.ConnectTimeout("slow"),
        lambda: problem("rate-limited", 429),
    ],
)
def test_what_did_not_begin_is_begun_again(run: Any, first: Any) -> None:
    script = Scripted(first(), httpx.Response(200, content=b""))
    run(script, lambda c: c.delete_assessment("a1"))
    assert len(script.asked) == 2


def test_an_answer_that_cannot_be_decoded(run: Any) -> None:
    """As of a proxy that names an encoding and sends another."""
    with pytest.raises(ServiceUnavailableError, match="DecodingError"):
        run(Scripted(httpx.DecodingError("zlib")), lambda c: c.plan("a1"), retries=0)


def test_repetitions_are_counted(run: Any) -> None:
    script = Scripted(*[httpx.ReadTimeout("slow")] * 3)
    with pytest.raises(ServiceUnavailableError, match="ReadTimeout: slow"):
        run(script, lambda c: c.plan("a1"))
    assert len(script.asked) == 3
    once = Scripted(httpx.Response(503))
    with pytest.raises(ServiceUnavailableError, match="got status 503"):
        run(once, lambda c: c.plan("a1"), retries=0)


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.create_assessment("name", [4]),
        lambda c: c.assess(iter([b"abc"]), batch_size=2),
        lambda c: c.put_shard("a1", 0, iter([b"abc"])),
        lambda c: c.delete_assessment("a1"),
    ],
)
def test_what_is_not_safe_is_sent_once(run: Any, act: Act) -> None:
    script = Scripted(httpx.ReadError("cut"))
    with pytest.raises(ServiceUnavailableError):
        run(script, act)
    assert len(script.asked) == 1


def test_retry_after_is_kept(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    # the clients' own names for the modules: threads that other tests left behind sleep by the modules themselves
    monkeypatch.setattr("clients.http.time", SimpleNamespace(**vars(time) | {"sleep": waited.append}))
    monkeypatch.setattr("clients.async_http.asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": pause}))
    answers = [problem("database-unavailable", 503, **{"retry-after": "7"}), httpx.Response(200, json=SHARD)]
    run(Scripted(*answers), lambda c: c.put_shard("a1", 0, b"x"), retries=Backoff(longest_delay_s=9))
    assert waited == [7.0]


def test_unavailable_names_the_url_and_what_to_do(run: Any) -> None:
    with pytest.raises(ServiceUnavailableError) as caught:
        run(Scripted(httpx.ConnectError("refused")), lambda c: c.get_assessment("a1"), retries=0)
    text = str(caught.value)
    assert "GET http://service.test:81/base/v1/assessments/a1; ConnectError: refused" in text
    assert "normgauge serve" in text


@pytest.mark.parametrize(("status", "text"), [(404, "<html>nginx"), (200, "hello")])
def test_something_else_answers(run: Any, status: int, text: str) -> None:
    answer = httpx.Response(status, text=text)
    with pytest.raises(ServiceUnavailableError, match=r"status (404|200) and b'(<html>nginx|hello)'"):
        run(Scripted(answer), lambda c: c.get_assessment("a1"))


def test_the_key_and_the_password_appear_nowhere(run: Any) -> None:
    texts: list[str] = []

    def act(client: Any) -> Any:
        texts.append(repr(client))
        return client.get_assessment("a1")

    for answer in (problem("x", 401), httpx.ReadError("cut"), httpx.Response(500, text="no")):
        with pytest.raises((AuthenticationError, ServiceUnavailableError)) as caught:
            run(Scripted(answer), act, retries=0)
        texts += [repr(caught.value), str(caught.value), repr(caught.value.__cause__), repr(vars(caught.value))]
    assert not any(KEY in text or "password" in text for text in texts)
    assert "AssessorClient('http://service.test:81/base')" in texts[0]


def test_httpx_logs_no_password(caplog: pytest.LogCaptureFixture) -> None:
    """It logs the URL of every request."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"assessments": [], "next_cursor": None})

    async def main() -> None:
        async with AsyncAssessorClient(URL, transport=httpx.MockTransport(answer)) as client:
            assert [info async for info in client.list_assessments()] == []

    with caplog.at_level("DEBUG"):
        with AssessorClient(URL, transport=httpx.MockTransport(answer)) as client:
            assert list(client.list_assessments()) == []
        with AssessorClient(URL, KEY, transport=httpx.MockTransport(answer)) as client:
            assert list(client.list_assessments()) == []
        asyncio.run(main())
    assert "http://service.test:81/base/v1/assessments" in caplog.text
    assert "password" not in caplog.text
    assert KEY not in caplog.text
    basic = f"Basic {base64.b64encode(b'user:password').decode()}"
    assert [request.headers["authorization"] for request in asked] == [basic, f"Bearer {KEY}", basic]


@pytest.mark.parametrize("kind", [AssessorClient, AsyncAssessorClient])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 0}, "expected timeout_s to be a number of seconds above 0; got 0"),
        ({"timeout_s": "9"}, "got '9'"),
        ({"retries": "3"}, "expected a whole number of retries"),
        ({"retries": -1}, "retries=-1"),
        ({"retries": 2.5}, "retries=2.5"),
        ({"api_key": b"secret"}, "printable ASCII"),
        ({"base_url": "http://service.test/base?key=secret"}, "http://service.test/base with a query"),
    ],
)
def test_settings_that_cannot_be(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        kind(**{"base_url": "http://service.test", **options})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda c: c.put_shard("a1", 0.5, b"x"), SettingError, "index to be an integer >= 0; got 0.5"),
        (lambda c: c.put_shard("a1", -1, b"x"), SettingError, "got -1"),
        (lambda c: c.put_shard(5, 0, b"x"), ValueError, "expected an assessment's id"),
        (lambda c: c.create_assessment("n", [4], order="rows"), SettingError, "to be a SampleOrder; got str"),
        (lambda c: c.create_assessment("n", [[4], [8, 16]]), SettingError, "expected batch_sizes"),
        (lambda c: c.create_assessment("n", [True]), SettingError, "expected batch_sizes"),
        (lambda c: c.get_job(None), ValueError, "expected a job's id"),
        (lambda c: c.ingest("a1", None), ValueError, "expected a pattern, or URIs in their order; got NoneType"),
        (lambda c: c.ingest("a1", [5]), ValueError, "expected a URI, or a Shard with one; got int"),
    ],
)
def test_arguments_that_cannot_be(run: Any, act: Act, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(Scripted(), act)


def test_the_event_loop_does_not_wait_for_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def digest(pieces: Iterator[bytes]) -> str:
        threads.append(threading.get_ident())
        return content_digest(pieces)

    monkeypatch.setattr("clients.bodies.content_digest", digest)
    run_async(Scripted(httpx.Response(200, json=SHARD)), lambda c: c.put_shard("a1", 0, b"x"))
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize("url", ["", "service.test", "ftp://service.test", "http://", None])
def test_urls_that_are_none(url: Any) -> None:
    for kind in (AssessorClient, AsyncAssessorClient):
        with pytest.raises(ValueError, match="expected the service's URL"):
            kind(url)


def test_keys_that_no_header_can_hold() -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        AssessorClient("http://service.test", "se\ncret")
    assert "cret" not in str(caught.value)


def test_ids_are_no_paths(run: Any) -> None:
    with pytest.raises(ValueError, match="expected an assessment's id"):
        run(Scripted(), lambda c: c.delete_assessment("../x"))


def test_pages_are_followed(run: Any) -> None:
    item = {
        "id": "a1",
        "name": "n",
        "created_at": "2026-01-01T00:00:00Z",
        "batch_sizes": [4],
        "method": "need",
        "feature_axis": "element",
        "nonfinite": "raise",
        "order": {"kind": "rows"},
    }
    pages = Scripted(
        httpx.Response(200, json={"assessments": [item, item], "next_cursor": "c=2"}),
        httpx.Response(200, json={"assessments": [item], "next_cursor": None}),
    )

    def everything(client: Any) -> Any:
        if isinstance(client, AssessorClient):
            return list(client.list_assessments())

        async def gather() -> Any:
            return [info async for info in client.list_assessments()]

        return gather()

    assert [info.id for info in run(pages, everything)] == ["a1"] * 3
    assert [path for _, path, _ in pages.asked] == ["/base/v1/assessments", "/base/v1/assessments?cursor=c%3D2"]


def test_parameters_of_a_plan(run: Any) -> None:
    script = Scripted(problem("bad-setting", 422))
    with pytest.raises(ValueError, match="do this"):
        run(
            script,
            lambda c: c.plan("a1", batch_size=4, threshold=1.5, drop_last=True, published_exact=False),
        )
    assert script.asked[0][1].partition("?")[2].split("&") == [
        "batch_size=4",
        "threshold=1.5",
        "drop_last=true",
        "published_exact=false",
    ]


def test_new_assessment_is_json(run: Any) -> None:
    script = Scripted(problem("bad-setting", 422))
    with pytest.raises(ValueError, match="do this"):
        run(script, lambda c: c.create_assessment("n", [np.int64(4)]))
    assert json.loads(script.asked[0][2]) == {
        "name": "n",
        "batch_sizes": [4],
        "method": "need",
        "feature_axis": "element",
        "nonfinite": "raise",
        "order": {"kind": "rows"},
    }


def test_backoff() -> None:
    delays = [list(Backoff(retries=5, first_delay_s=1, longest_delay_s=4).delays()) for _ in range(50)]
    bounds = [1, 2, 4, 4, 4]
    assert all(0 <= d <= b for row in delays for d, b in zip(row, bounds, strict=True))
    assert len({row[0] for row in delays}) == 50  # jitter
    with pytest.raises(ValueError, match="expected a whole number of retries"):
        Backoff(retries=-1)
    numbers: Any = {"retries": np.int64(2), "first_delay_s": np.float32(1)}
    assert len(list(Backoff(**numbers).delays())) == 2


def test_a_consumed_stream_is_not_sent_again(run: Any) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"abc"

    script = Scripted(httpx.Response(503))
    with pytest.raises(ServiceUnavailableError):
        run(script, lambda c: c.put_shard("a1", 0, pieces()))
    assert script.asked[0][2] == b"abc"
