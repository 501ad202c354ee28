"""SIGKILL during parallel uploads, a few times; `benchmarks/kill_service.py` does it more often."""

import httpx
import pytest

from app.settings import Settings
from benchmarks.kill_service import ROWS, SHARDS, Dataset, LostError, Report, Upload, begin, check, check_plan, run

pytestmark = pytest.mark.databases


def test_acknowledged_shards_survive_kills(settings: Settings) -> None:
    report = run(settings.database_url, kills=2, seed=7)
    assert report.kills == 2
    assert report.plans >= 1
    assert report.acknowledged >= SHARDS


@pytest.fixture(scope="module")
def data() -> Dataset:
    """A dataset in shards."""
    return Dataset(seed=1)


def put(client: httpx.Client, upload: Upload, index: int) -> None:
    """Send a shard and note that it was acknowledged."""
    body = upload.data.bodies[index]
    assert client.put(f"{upload.path}/shards/{index}?first_row={ROWS * index}", content=body).status_code == 201
    upload.acknowledged.add(index)
    upload.sent_whole.add(index)


def test_the_check_sees_what_is_wrong(client: httpx.Client, data: Dataset) -> None:
    upload, report = begin(client, data), Report()
    put(client, upload, 3)
    check(client, upload, report)
    upload.acknowledged.add(4)
    with pytest.raises(LostError, match=r"\[4\] are gone"):
        check(client, upload, report)
    upload.acknowledged, upload.sent_whole = set(), set()
    with pytest.raises(LostError, match=r"not sent to its end; \[3\] are there"):
        check(client, upload, report)
    upload.sent_whole = {3}
    check(client, upload, report)
    assert report.answers_lost == 1
    wrong = Upload(upload.path, Dataset(seed=2), {3}, {3})
    with pytest.raises(LostError, match="shard 3 as it was sent"):
        check(client, wrong, report)
    with pytest.raises(LostError, match="plan of a single pass; got 409"):
        check_plan(client, upload, report)
