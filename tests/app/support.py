"""What the service's tests share: shard bodies, and the form that every refusal must have."""

import io
import re
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from app.problems import KINDS, MEDIA_TYPE

NPY = "application/x-npy"
SAFETENSORS = "application/vnd.safetensors"


def npy(x: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    """Return the array as numpy.save writes it."""
    stream = io.BytesIO()
    np.save(stream, x, allow_pickle=allow_pickle)
    return stream.getvalue()


def npy_head(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """Return what stands before the data in an npy file of this shape, which need not be made for it."""
    stream = io.BytesIO()
    fields = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def safetensors(x: NDArray[Any], y: NDArray[Any] | None = None) -> bytes:
    """Return x, and y where given, as the safetensors library writes them."""
    return save({"x": x} if y is None else {"x": x, "y": y})


def rows(n: int, *, features: int = 6, seed: int = 0) -> NDArray[np.float32]:
    """Return n rows whose features differ in mean and scale."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, features)) * np.arange(1, features + 1) + 2).astype(np.float32)


def create(client: httpx.Client, **fields: Any) -> str:
    """Return the path of a new assessment."""
    body = {"name": "test", "batch_sizes": [4]} | fields
    response = client.post("/v1/assessments", json=body)
    assert response.status_code == 201, response.text
    return response.headers["location"]


def check_problem(response: httpx.Response, status: int, code: str, *words: str) -> dict[str, Any]:
    """Check that a response is a problem document of this kind, whose detail says these words, in this order."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    problem = response.json()
    assert problem["type"] == f"/problems/{code}"
    assert problem["status"] == status == KINDS[code].status
    assert problem["title"] == KINDS[code].title
    assert problem["instance"] == response.request.url.path
    assert problem["advice"]
    assert re.search(".*".join(map(re.escape, words)), problem["detail"], re.S), problem["detail"]
    assert "Traceback" not in response.text
    assert 'File "' not in response.text
    return dict(problem)
