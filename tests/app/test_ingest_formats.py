"""Shards of the other formats, sent to the service: the plan is that of the array which was written."""

import httpx
import numpy as np
import pytest

from app.ingest import ShardReader
from app.problems import ProblemError
from app.settings import Settings
from assessor import AssessorError, assess, profile_array
from benchmarks.support.fuzz_seeds import arrow, csv_text, npz, parquet, table
from tests.app.support import check_problem, create, rows

X = rows(37)
Y = np.arange(37) % 3
LISTS = table(X, Y, lists="fixed")
BODIES = {
    "application/vnd.apache.arrow.stream": arrow(LISTS, batch_rows=10),
    "application/vnd.apache.arrow.file": arrow(table(X, Y), file=True),
    "application/vnd.apache.parquet": parquet(LISTS, row_group_size=9),
    "application/x-npz": npz(x=X, y=Y),
}


@pytest.mark.parametrize("media_type", BODIES)
@pytest.mark.parametrize("recognized", [False, True])
def test_assess(client: httpx.Client, media_type: str, recognized: bool) -> None:
    headers = {"content-type": "application/octet-stream" if recognized else media_type}
    response = client.post("/v1/assess?batch_size=8", content=BODIES[media_type], headers=headers)
    assert response.status_code == 200, response.text
    assert response.text == assess(X, batch_size=8, labels=Y).to_json()


def test_csv_by_its_media_type(client: httpx.Client) -> None:
    wide = X.astype(np.float64)
    response = client.post(
        "/v1/assess?batch_size=8", content=csv_text(wide, Y), headers={"content-type": "text/csv; charset=utf-8"}
    )
    assert response.text == assess(wide, batch_size=8, labels=Y).to_json()


def test_put(client: httpx.Client) -> None:
    path = create(client, batch_sizes=[8])
    for index, (media_type, body) in enumerate(BODIES.items()):
        put = client.put(
            f"{path}/shards/{index}?first_row={37 * index}", content=body, headers={"content-type": media_type}
        )
        assert put.status_code == 201, put.text
    plan = client.get(f"{path}/plan?batch_size=8").json()
    whole = assess(np.tile(X, (4, 1)), batch_size=8, labels=np.tile(Y, 4))
    assert plan["n_rows"] == 148
    assert [round(score, 5) for score in plan["scores"]] == [round(float(score), 5) for score in whole.scores]


def test_a_bad_one_is_a_problem(client: httpx.Client) -> None:
    body = BODIES["application/vnd.apache.parquet"]
    headers = {"content-type": "application/vnd.apache.parquet"}
    response = client.post("/v1/assess?batch_size=8", content=body[:-9], headers=headers)
    check_problem(response, 422, "malformed-shard", "expected a Parquet file that ends with its metadata")
    response = client.post("/v1/assess?batch_size=8", content=npz(images=X))
    check_problem(response, 422, "malformed-shard", "got members ['images.npy']", "numpy.savez")


def read(body: bytes, settings: Settings) -> bytes:
    reader = ShardReader(batch_sizes=[4], feature_axis="element", settings=settings)
    for start in range(0, len(body), 4096):
        reader.feed(body[start : start + 4096])
    return reader.finish().profile.to_bytes()


def test_a_shard_that_is_kept_until_its_end_is_no_long_row() -> None:
    x = np.random.default_rng(0).normal(size=(40_000, 6))  # 1.9 MB: more than a header and a row of 8 values
    settings = Settings(max_features=8)
    for body in (npz(x=x), arrow(table(x), batch_rows=40_000), parquet(table(x))):
        assert read(body, settings) == profile_array(x, batch_sizes=[4]).to_bytes()


def test_limits_of_the_service() -> None:
    body = BODIES["application/x-npz"]
    with pytest.raises(AssessorError, match="npz shard of at most 1000 bytes"):
        read(body, Settings(max_spool_bytes=1000))
    with pytest.raises(AssessorError, match="at most 1000 bytes when decompressed"):
        read(body, Settings(max_decoded_bytes=1000))
    for name in ("application/vnd.apache.parquet", "application/vnd.apache.arrow.stream", "application/x-npz"):
        with pytest.raises((AssessorError, ProblemError), match="at most 5 values"):
            read(BODIES[name], Settings(max_features=5))
