"""Objects in a real S3 server and in folders: read whole, in part, by pattern; and what is refused or fails."""

import os
import re
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assessor import errors
from assessor.sources import SourceUri, Store, StoreSettings, find_pattern, open_store, read_range
from assessor.sources.ranged import RANGE_BYTES
from tests.object_stores import KEYS, OBJECT, S3, Answer, moto, scripted

BODY = bytes(range(256)) * 20_000
Put = Callable[[str, bytes], SourceUri]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Moto's S3 server."""
    with moto() as s3:
        yield s3


@pytest.fixture(params=["s3", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Put]:
    """A store of each kind, and how to put an object into it."""
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        return open_store(SourceUri.parse("s3://data/"), s3.settings), lambda k, b: SourceUri.parse(s3.put(k, b))

    def put(key: str, body: bytes) -> SourceUri:
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return SourceUri("file", "", str(path).lstrip("/"))

    return open_store(SourceUri.parse("file:///"), StoreSettings(), root=str(tmp_path)), put


def test_an_object_is_read_in_bounded_pieces(place: tuple[Store, Put]) -> None:
    store, put = place
    source = store.find(put("pieces/x.bin", BODY))
    assert source.size_bytes == len(BODY)
    pieces = list(read_range(store, source, 0, len(BODY)))
    assert b"".join(pieces) == BODY
    assert max(map(len, pieces)) <= RANGE_BYTES < len(BODY)


def test_any_range_is_what_a_slice_is(place: tuple[Store, Put]) -> None:
    store, put = place
    source = store.find(put("ranges/x.bin", BODY[:5000]))

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 4999), st.integers(1, 5000))
    def check(start: int, length: int) -> None:
        assert store.read(source, start, min(start + length, 5000)) == BODY[start : min(start + length, 5000)]

    check()


def test_an_empty_object_has_no_pieces(place: tuple[Store, Put]) -> None:
    store, put = place
    assert list(read_range(store, store.find(put("empty.bin", b"")), 0, 0)) == []


def test_a_pattern_gives_objects_in_order(place: tuple[Store, Put]) -> None:
    store, put = place
    names = ["part-10.npy", "part-2.npy", "part-1.npy", "other.txt", "sub/part-1.npy"]
    uris = {name: put(f"order/{name}", name.encode()) for name in names}
    folder = str(uris["other.txt"]).removesuffix("other.txt")
    found = find_pattern(store, SourceUri.parse(folder + "part-*.npy"), limit=9)
    assert [s.uri for s in found] == [uris[name] for name in ("part-1.npy", "part-10.npy", "part-2.npy")]
    assert [s.size_bytes for s in found] == [10, 11, 10]
    assert found == [store.find(s.uri) for s in found]
    everything = find_pattern(store, SourceUri.parse(folder + "**"), limit=9)
    assert [s.uri for s in everything] == sorted(uris.values())
    with pytest.raises(errors.SourceUriError, match="at most 2 objects"):
        find_pattern(store, SourceUri.parse(folder + "part-*.npy"), limit=2)
    with pytest.raises(errors.SourceNotFoundError, match="at least one object"):
        find_pattern(store, SourceUri.parse(folder + "none-*"), limit=2)


def test_an_object_that_is_not_there(place: tuple[Store, Put]) -> None:
    store, put = place
    uri = put("there.bin", b"x")
    with pytest.raises(errors.SourceNotFoundError, match=r"expected an? (object|file) at"):
        store.find(SourceUri(uri.scheme, uri.container, uri.key + "x"))


def test_an_object_that_was_written_anew(place: tuple[Store, Put]) -> None:
    store, put = place
    source = store.find(put("changed.bin", b"first"))
    put("changed.bin", b"second")
    with pytest.raises(errors.SourceChangedError, match=r"expected .*changed.bin as it was found, 5 bytes"):
        store.read(source, 0, 5)


def test_keys_are_taken_as_they_stand(s3: S3) -> None:
    store = open_store(SourceUri.parse("s3://data/"), s3.settings)
    httpx.put(f"{s3.endpoint}/data/a%20b%25.bin", content=b"space and per cent").raise_for_status()
    source = store.find(SourceUri("s3", "data", "a b%.bin"))
    assert store.read(source, 0, 18) == b"space and per cent"


@pytest.mark.parametrize("key", ["a//b.bin", "./b.bin", "a%09b.bin"])
def test_a_key_that_cannot_be_listed_is_named(s3: S3, key: str) -> None:
    folder = f"unlisted{len(key)}"
    connection = HTTPConnection(urlsplit(s3.endpoint).netloc)  # which sends a path as it stands
    connection.request("PUT", f"/data/{folder}/{key}", b"x")
    assert connection.getresponse().status == 200
    connection.close()
    store = open_store(SourceUri.parse("s3://data/"), s3.settings)
    shown = re.escape(f"{folder}/{key}".replace("%09", "\\t"))
    with pytest.raises(errors.SourceUriError, match=f"below s3://data/{folder}; got '{shown}': rename that object"):
        find_pattern(store, SourceUri.parse(f"s3://data/{folder}/*"), limit=9)


class TestFolder:
    def test_links_within_it_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real/x.bin").write_bytes(b"x")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        store = open_store(SourceUri.parse("file:///"), StoreSettings(), root=str(tmp_path))
        source = store.find(SourceUri("file", "", f"{tmp_path}/link/x.bin".lstrip("/")))
        assert store.read(source, 0, 1) == b"x"

    @pytest.mark.parametrize("name", ["link.bin", "folder/x.bin", "../outside/x.bin", "."])
    def test_nothing_outside_is_read(self, tmp_path: Path, name: str) -> None:
        outside, inside = tmp_path / "outside", tmp_path / "inside"
        outside.mkdir()
        inside.mkdir()
        (outside / "x.bin").write_bytes(b"secret")
        (inside / "link.bin").symlink_to(outside / "x.bin")
        (inside / "folder").symlink_to(outside)
        store = open_store(SourceUri.parse("file:///"), StoreSettings(), root=str(inside))
        uri = SourceUri("file", "", f"{inside}/{name}".lstrip("/"))
        with pytest.raises(errors.SourceEscapeError, match=r"leads out of it|a folder or a device"):
            store.find(uri)

    def test_a_list_that_meets_a_link_out_of_it_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "inside").mkdir()
        (tmp_path / "x.bin").write_bytes(b"secret")
        (tmp_path / "inside/link.bin").symlink_to(tmp_path / "x.bin")
        root = str(tmp_path / "inside")
        store = open_store(SourceUri.parse("file:///"), StoreSettings(), root=root)
        with pytest.raises(errors.SourceEscapeError, match=re.escape("link.bin leads out")):
            find_pattern(store, SourceUri.parse(f"file://{root}/*"), limit=9)

    def test_a_link_that_a_pattern_does_not_match_does_no_harm(self, tmp_path: Path) -> None:
        (tmp_path / "inside").mkdir()
        (tmp_path / "x.bin").write_bytes(b"secret")
        (tmp_path / "inside/link.bin").symlink_to(tmp_path / "x.bin")
        (tmp_path / "inside/part-0.bin").write_bytes(b"rows")
        root = str(tmp_path / "inside")
        store = open_store(SourceUri.parse("file:///"), StoreSettings(), root=root)
        (found,) = find_pattern(store, SourceUri.parse(f"file://{root}/part-*"), limit=9)
        assert found.uri.key == f"{root}/part-0.bin".lstrip("/")

    def test_a_file_replaced_by_a_link_after_it_was_found(self, tmp_path: Path) -> None:
        (tmp_path / "inside").mkdir()
        (tmp_path / "x.bin").write_bytes(b"secret")
        path = tmp_path / "inside/x.bin"
        path.write_bytes(b"public")
        store = open_store(SourceUri.parse("file:///"), StoreSettings(), root=str(tmp_path / "inside"))
        source = store.find(SourceUri("file", "", str(path).lstrip("/")))
        path.unlink()
        path.symlink_to(tmp_path / "x.bin")
        with pytest.raises(errors.SourceEscapeError):
            store.read(source, 0, 6)

    def test_a_pipe_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        store = open_store(SourceUri.parse("file:///"), StoreSettings(), root=str(tmp_path))
        with pytest.raises(errors.SourceEscapeError, match="a folder or a device"):
            store.find(SourceUri("file", "", f"{tmp_path}/pipe".lstrip("/")))


URI = SourceUri.parse("s3://data/x.bin")


def at(endpoint: str, **changes: object) -> Store:
    """Return the bucket at an endpoint, with one repetition of what fails."""
    return open_store(URI, StoreSettings(endpoint=endpoint, **({"retries": 1} | KEYS | changes)))  # type: ignore[arg-type]


class TestEndpoint:
    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_to_another_host_is_not_followed(self, status: int) -> None:
        with scripted(Answer(200, BODY, OBJECT), host="127.0.0.2") as (other, asked_of_other):
            redirect = Answer(status, headers={"Location": f"{other}/data/x.bin"})
            with (
                scripted(redirect) as (endpoint, asked),
                pytest.raises(errors.SourceRedirectError, match="sends on to another host"),
            ):
                at(endpoint).find(URI)
            assert asked
            assert asked_of_other == []

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_store_that_refuses(self, status: int) -> None:
        with (
            scripted(Answer(status)) as (endpoint, _),
            pytest.raises(errors.SourceDeniedError, match="the store refused: check the credentials"),
        ):
            at(endpoint).find(URI)

    def test_a_store_that_is_down_is_asked_again(self) -> None:
        with scripted({("HEAD", 0): Answer(503), ("HEAD", -1): Answer(200, BODY, OBJECT)}) as (endpoint, asked):
            assert at(endpoint).find(URI).size_bytes == len(BODY)
            assert asked == ["HEAD /data/x.bin"] * 2

    def test_a_store_that_stays_down(self) -> None:
        with scripted(Answer(503)) as (endpoint, asked):
            with pytest.raises(errors.SourceUnavailableError, match="does not answer") as caught:
                at(endpoint).find(URI)
            assert len(asked) == 2
        assert "Generic" not in str(caught.value)
        with pytest.raises(errors.SourceUnavailableError, match="does not answer"):
            at(endpoint).find(URI)

    def test_a_read_that_is_cut_goes_on_where_it_was(self) -> None:
        whole = Answer(200, BODY, OBJECT)
        cut = Answer(200, BODY, OBJECT, cut_at=1_000_000)
        with scripted({("HEAD", -1): whole, ("GET", 0): cut, ("GET", -1): whole}) as (endpoint, asked):
            store = at(endpoint)
            assert store.read(store.find(URI), 500, 3_000_500) == BODY[500:3_000_500]
        assert [line for line in asked if line.startswith("GET")] == [
            "GET /data/x.bin bytes=500-3000499",
            "GET /data/x.bin bytes=1000500-3000499",
        ]

    def test_a_read_that_goes_on_in_another_object_is_refused(self) -> None:
        cut = Answer(200, BODY, OBJECT, cut_at=1_000_000)
        other = Answer(200, BODY, OBJECT | {"ETag": '"2"'})
        with scripted({("HEAD", -1): cut, ("GET", 0): cut, ("GET", -1): other}) as (endpoint, _):
            store = at(endpoint)
            with pytest.raises((errors.SourceChangedError, errors.SourceUnavailableError)):
                store.read(store.find(URI), 0, len(BODY))

    def test_roles_are_not_asked_without_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        with pytest.raises(errors.SettingError, match="not asked for without TLS"):
            open_store(URI, StoreSettings(endpoint="http://127.0.0.1:1"))
        assert open_store(URI, StoreSettings(endpoint="http://127.0.0.1:1", anonymous=True))

    @pytest.mark.parametrize(
        "endpoint", ["s3.example.org", "ftp://x", "http://", "http://u:secret@host", "http://h/?a=secret", "http://[::"]
    )
    def test_endpoints_that_are_none(self, endpoint: str) -> None:
        with pytest.raises(errors.SettingError, match="as the store's endpoint") as caught:
            StoreSettings(endpoint=endpoint)
        assert "secret" not in str(caught.value)

    def test_the_environment_names_endpoint_and_region(self) -> None:
        environ = {"AWS_REGION": "eu-north-1", "AWS_ENDPOINT_URL": "https://a.example/"}
        assert StoreSettings().endpoint_from(environ) == "https://a.example"
        assert (
            StoreSettings().endpoint_from(environ | {"AWS_ENDPOINT_URL_S3": "https://b.example"}) == "https://b.example"
        )
        assert StoreSettings(endpoint="https://c.example").endpoint_from(environ) == "https://c.example"
        assert StoreSettings().endpoint_from({"AWS_REGION": "eu-north-1"}) == "https://s3.eu-north-1.amazonaws.com"

    def test_secrets_show_in_no_text(self) -> None:
        settings = StoreSettings(access_key_id="AKIAQ", secret_access_key="wJalr", session_token="FwoG")
        assert not re.search("AKIAQ|wJalr|FwoG", repr(settings))
