"""Plans kept across runs, in a folder, under a name that says what they were made of.

The name is the SHA-256 of: the layout's fingerprint (samples, batch size, drop_last, order), the
method and its settings, what is scored (input_key, label_key), this package's version, the
dataset's class, its own fingerprint where it has one (`fingerprint` or `_fingerprint`, as Hugging
Face datasets have), the caller's `cache_key`, and the content of `SAMPLES_READ` samples spread over
the order, the first and the last among them: values, dtype, shape and label.

So a change of any of these assesses again. A change of the data that keeps the number of samples
and misses all those read is not seen: name the data's version in `cache_key`.
"""

import hashlib
import importlib.metadata
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assessor import Plan, PlanFormatError, hash_rows
from clients.batches import read_samples
from clients.reading import untouched_generators
from clients.samples import InputKey, label_of, scored_tensor

# The setting of the folder, where the loader's argument does not name one.
FOLDER_VARIABLE = "NORMGAUGE_CACHE_DIR"

SAMPLES_READ = 256


def cache_folder(given: str | os.PathLike[str] | Literal[False] | None) -> Path | None:
    """Return the folder: the one given, for None that of NORMGAUGE_CACHE_DIR; None for no cache.

    >>> cache_folder(False) is None, cache_folder("plans").name
    (True, 'plans')
    """
    if given is False:
        return None
    named = os.environ.get(FOLDER_VARIABLE) if given is None else given
    return Path(named) if named else None


def load_plan(folder: Path, name: str) -> Plan | None:
    """Return the plan of that name; None where there is none, or one that cannot be read."""
    try:
        return Plan.load(folder / f"{name}.json")
    except (OSError, PlanFormatError):
        return None


def save_plan(folder: Path, name: str, plan: Plan) -> None:
    """Keep a plan; the file is whole or not there, whoever else writes it too."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f"{name[:16]}-", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(plan.to_json())
        os.replace(partial, folder / f"{name}.json")
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def content_name(
    dataset: Any,
    ids: NDArray[np.int64],
    *,
    settings: dict[str, Any],
    input_key: InputKey,
    label_key: InputKey,
    cache_key: str,
) -> str:
    """Return the name of an assessment's result, 64 hexadecimal digits.

    Args:
        dataset: what is assessed.
        ids: its samples in the order of assessment.
        settings: JSON-able; all that the plan depends on beside the data.
        input_key: what is scored.
        label_key: the label.
        cache_key: the caller's name for the data's version.
    """
    known = {
        "version": importlib.metadata.version("normgauge"),
        "dataset": f"{type(dataset).__module__}.{type(dataset).__qualname__}",
        "fingerprint": _own_fingerprint(dataset),
        "cache_key": cache_key,
        "input_key": _described(input_key),
        "label_key": _described(label_key),
        "settings": settings,
    }
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
    with untouched_generators():
        chosen = _spread(ids).tolist()
        for sample in read_samples(dataset, chosen):
            rows = scored_tensor(sample, input_key).contiguous()
            digest.update(f"{rows.dtype} {tuple(rows.shape)} {label_of(sample, label_key)} ".encode())
            digest.update(rows.numpy().tobytes())
    return digest.hexdigest()


def _spread(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return up to SAMPLES_READ of the ids: the first, the last and others drawn by hash."""
    if len(ids) <= SAMPLES_READ:
        return ids
    places = np.arange(1, len(ids) - 1, dtype=np.int64)
    drawn: NDArray[np.int64] = places[np.argpartition(hash_rows(0, places), SAMPLES_READ - 2)[: SAMPLES_READ - 2]]
    chosen: NDArray[np.int64] = ids[np.sort(np.concatenate([[0], drawn, [len(ids) - 1]]))]
    return chosen


def _own_fingerprint(dataset: Any) -> str | None:
    for name in ("fingerprint", "_fingerprint"):
        value = getattr(dataset, name, None)
        if isinstance(value, str):
            return value
    return None


def _described(key: InputKey) -> str:
    """Return a text that changes with what a key picks; a function's by its name and its code."""
    if not callable(key):
        return repr(key)
    code = getattr(key, "__code__", None)
    body = "" if code is None else hashlib.sha256(code.co_code + repr(code.co_consts).encode()).hexdigest()
    names = () if code is None else code.co_names
    return f"{getattr(key, '__module__', '')}.{getattr(key, '__qualname__', type(key).__qualname__)} {names} {body}"
