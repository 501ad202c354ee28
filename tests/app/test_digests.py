"""Content-Digest: checked as RFC 9530 says, over the bytes as sent; the identity is over what they decode to."""

import base64
import gzip
import hashlib
from collections.abc import Callable

import httpx
import pytest
from xxhash import xxh3_128

from app.digests import ContentDigests
from app.problems import ProblemError
from clients.compression import zstd
from tests.app.support import check_problem, create, npy, rows

BODY = npy(rows(50))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}


def field(body: bytes, name: str = "sha-256") -> str:
    digest = hashlib.new(name.replace("-", ""), body).digest()
    return f"{name}=:{base64.b64encode(digest).decode()}:"


@pytest.mark.parametrize(
    "fields",
    [
        [field(BODY)],
        [field(BODY, "sha-512")],
        [f"{field(BODY)}, {field(BODY, 'sha-512')}"],
        [field(BODY), field(BODY, "sha-512")],
        [f"md5=:AAAA:, {field(BODY)};note=1"],
        ["unixsum=:AAAA:"],
        [],
    ],
)
def test_right_digests(fields: list[str]) -> None:
    digests = ContentDigests(fields)
    digests.update(BODY[:10])
    digests.update(BODY[10:])
    digests.check()


@pytest.mark.parametrize("name", ["sha-256", "sha-512"])
def test_wrong_digest(name: str) -> None:
    digests = ContentDigests([field(BODY), field(b"other", name)])
    digests.update(BODY)
    with pytest.raises(ProblemError, match=f"expected a body whose {name} is") as caught:
        digests.check()
    assert caught.value.code == "content-digest-mismatch"


@pytest.mark.parametrize(
    "text",
    ["", "sha-256", "sha-256=abc", "sha-256=:abc:", "sha-256=:!:", 'sha-256="x"', "SHA-256=:AAAA:", f"{field(BODY)},"],
)
def test_malformed(text: str) -> None:
    with pytest.raises(ProblemError, match=r"expected .*RFC 9530") as caught:
        ContentDigests([text])
    assert caught.value.code == "bad-content-digest"


@pytest.mark.parametrize("encoding", [None, "gzip", "zstd"])
def test_of_a_shard(client: httpx.Client, encoding: str | None) -> None:
    path = f"{create(client)}/shards/0"
    sent = BODY if encoding is None else COMPRESS[encoding](BODY)
    headers = {} if encoding is None else {"content-encoding": encoding}
    wrong = client.put(path, content=sent, headers=headers | {"content-digest": field(sent + b"x")})
    check_problem(wrong, 400, "content-digest-mismatch", "expected a body whose sha-256 is", "send it again")
    bad = client.put(path, content=sent, headers=headers | {"content-digest": "sha-256=x"})
    check_problem(bad, 400, "bad-content-digest", "expected Content-Digest", "RFC 9530")
    right = client.put(path, content=sent, headers=headers | {"content-digest": field(sent)})
    assert right.status_code == 201, right.text
    # The same shard, encoded or not, is the same.
    assert right.json()["digest"] == f"xxh3-128:{xxh3_128(BODY).hexdigest()}"
    assert right.json()["size_bytes"] == len(BODY)
    for again in (BODY, gzip.compress(BODY), zstd.compress(BODY)):
        name = {0x1F: "gzip", 0x28: "zstd"}.get(again[0], "identity")
        assert client.put(path, content=again, headers={"content-encoding": name}).status_code == 200
    wrong = client.put(path, content=BODY, headers={"content-digest": field(b"")})
    check_problem(wrong, 400, "content-digest-mismatch")


def test_of_json(client: httpx.Client) -> None:
    body = b'{"name": "test", "batch_sizes": [4]}'
    headers = {"content-type": "application/json"}
    for digest, status in ((field(body), 201), (field(b"other"), 400)):
        response = client.post("/v1/assessments", content=body, headers=headers | {"content-digest": digest})
        assert response.status_code == status, response.text
    packed = client.post("/v1/assessments", content=gzip.compress(body), headers=headers | {"content-encoding": "gzip"})
    check_problem(packed, 415, "unsupported-encoding", "expected a body without Content-Encoding here")
    assert packed.headers["accept-encoding"] == "identity"
