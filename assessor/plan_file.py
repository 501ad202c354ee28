"""Plans as JSON, schema `normgauge.plan/1`. Numbers that JSON lacks: NaN is null, infinities are "inf" and "-inf"."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from assessor.advice import Advice
from assessor.errors import AssessorError, PlanFormatError
from assessor.measures import measures
from assessor.moments import Floats
from assessor.order import SampleOrder
from assessor.packed_bits import PackedBits
from assessor.plan import Plan

SCHEMA = "normgauge.plan/1"
_RUN = 1 << 12
COMPARED_AT_ONCE = 1 << 20


def dump_plan(plan: Plan) -> str:
    """Return the plan as JSON text; the same plan gives the same text."""
    details = (f"{_dump(name)}:{_dump_list(encode_column(column))}" for name, column in plan.details.items())
    parts = [
        _dump(describe_plan(plan))[:-1],
        f'"cutoffs":{_dump_list(encode_column(told_cutoffs(plan)))}',
        f'"scores":{_dump_list(encode_column(plan.scores))}',
        f'"normalize":{_dump_list(plan.normalize.astype(int).tolist())}',
        f'"details":{{{",".join(details)}}}}}',
    ]
    return ",".join(parts)


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _dump_list(values: Sequence[Any]) -> str:
    """Return a list as JSON, made in runs: one call of the encoder lets no other thread run, for seconds if long."""
    runs = (_dump(values[start : start + _RUN])[1:-1] for start in range(0, len(values), _RUN))
    return f"[{','.join(runs)}]"


def told_cutoffs(plan: Plan) -> Floats:
    """Return the cutoffs as files hold them: one where all are the same."""
    cutoffs = plan.cutoffs
    spread = cutoffs.strides == (0,) or (len(plan) > 0 and all((part == cutoffs[0]).all() for part in _parts(cutoffs)))
    return cutoffs[:1] if spread else cutoffs


def same_plan(plan: Plan, other: Plan) -> bool:
    """Return whether `dump_plan` gives the same text for both, in memory that does not grow with their batches."""
    return (
        len(plan) == len(other)
        and list(plan.details) == list(other.details)
        and _dump(describe_plan(plan)) == _dump(describe_plan(other))
        and _same_decisions(plan.normalize, other.normalize)
        and _same_numbers(told_cutoffs(plan), told_cutoffs(other))
        and _same_numbers(plan.scores, other.scores)
        and all(_same_numbers(column, other.details[name]) for name, column in plan.details.items())
    )


def _same_decisions(decisions: Any, others: Any) -> bool:
    if isinstance(decisions, PackedBits) and isinstance(others, PackedBits):
        return decisions.same(others)
    return len(decisions) == len(others) and all(map(np.array_equal, _parts(decisions), _parts(others)))


def _same_numbers(column: Floats, other: Floats) -> bool:
    return len(column) == len(other) and all(map(_told_alike, _parts(column), _parts(other)))


def _told_alike(numbers: Floats, others: Floats) -> bool:
    """Return whether numbers are the same in JSON: to the bit, zeros of both signs apart; NaN is NaN."""
    left, right = (np.ascontiguousarray(part, np.float64) for part in (numbers, others))
    bits, other_bits = left.view(np.int64), right.view(np.int64)
    return np.array_equal(bits, other_bits) or bool(((bits == other_bits) | (np.isnan(left) & np.isnan(right))).all())


def _parts(column: Any) -> Iterator[Any]:
    """Yield a column in runs, some at a time."""
    return (column[start : start + COMPARED_AT_ONCE] for start in range(0, len(column), COMPARED_AT_ONCE))


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Return all of a plan but its columns, as values of JSON."""
    return {
        "schema": SCHEMA,
        "method": plan.method,
        "measure": plan.measure,
        "threshold": plan.threshold,
        "batch_size": plan.batch_size,
        "drop_last": plan.drop_last,
        "n_rows": plan.n_rows,
        "n_batches": len(plan),
        "order": plan.order.to_dict(),
        **({} if plan.source_order is None else {"source_order": plan.source_order}),
        "fingerprint": plan.fingerprint,
        "flagged_fraction": plan.flagged_fraction,
        "decomposition": None if plan.decomposition is None else dict(plan.decomposition),
        "action": plan.action,
        "recommendation": plan.recommendation,
        "advice": None if plan.advice is None else plan.advice.to_dict(),
        "notes": list(plan.notes),
        "rule": dict(plan.rule),
    }


def load_plan(text: str | bytes) -> Plan:
    """Return the plan that `dump_plan` wrote.

    Raises:
        PlanFormatError: not such a text, of another version, or inconsistent with its own fingerprint.
    """
    try:
        body = json.loads(text, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise PlanFormatError(
            f"expected a plan in JSON, schema {SCHEMA}, or in columns; got other bytes: a plan's file is made "
            "by Plan.save or normgauge assess --save"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PlanFormatError(f"expected a plan in JSON, schema {SCHEMA}; got other text: {error}") from error
    if not isinstance(body, dict) or "schema" not in body:
        raise PlanFormatError(f"expected a plan in JSON, schema {SCHEMA}; got JSON that names no schema")
    schema = body["schema"]
    if schema != SCHEMA:
        raise PlanFormatError(f"expected a plan of schema {SCHEMA}; got {schema!r}: make the plan again")
    try:
        plan = _build(body)
        told = body["fingerprint"]
        _check(plan)
    except AssessorError as error:
        raise PlanFormatError(f"expected a consistent plan: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise PlanFormatError(f"expected all fields of {SCHEMA}; {type(error).__name__}: {error}") from error
    if plan.fingerprint != told:
        raise PlanFormatError(f"expected fingerprint {plan.fingerprint}; the file says {told!r:.100}: it was altered")
    return plan


def _check(plan: Plan) -> None:
    """Raise ValueError unless the columns fit the settings and each other."""
    check_layout(plan)
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(plan.normalize != (plan.scores > plan.cutoffs))
    if len(wrong):
        raise ValueError(f"the decision of batch {int(wrong[0])} does not follow from its score and cutoff")


def check_layout(plan: Plan) -> None:
    """Raise ValueError or KeyError unless a plan's settings fit the number of its batches and its columns' names."""
    if plan.n_rows < 1 or plan.batch_size < 1:
        raise ValueError(f"n_rows {plan.n_rows} and batch_size {plan.batch_size} must be at least 1")
    whole, rest = divmod(plan.n_rows, plan.batch_size)
    if len(plan) != whole + (1 if rest and not plan.drop_last else 0):
        raise ValueError(f"{len(plan)} batches do not come from {plan.n_rows} rows in batches of {plan.batch_size}")
    if plan.decomposition is not None and not np.isfinite(list(plan.decomposition.values())).all():
        raise ValueError("the decomposition must be finite")
    if plan.measure in measures.names():  # KeyError where a column that words its reasons is missing
        measures.get(plan.measure).explain({name: float(column[0]) for name, column in plan.details.items()})


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}; got {value!r:.80}")
    return value


def _build(body: dict[str, Any]) -> Plan:
    scores = decode_column(body["scores"])
    cutoffs = decode_column(body["cutoffs"])
    columns = [cutoffs] if len(cutoffs) != 1 else []
    flags = np.array(body["normalize"], dtype=np.int64)
    if flags.ndim != 1 or not np.isin(flags, (0, 1)).all():
        raise ValueError("normalize must hold 0 and 1")
    normalize = flags == 1
    details = {str(name): decode_column(column) for name, column in body["details"].items()}
    if any(len(c) != len(scores) for c in [normalize, *columns, *details.values()]) or not len(scores):
        raise ValueError("columns of different lengths")
    cutoffs = np.broadcast_to(cutoffs, scores.shape)
    return Plan(**read_description(body), scores=scores, cutoffs=cutoffs, normalize=normalize, details=details)


def read_description(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a plan that `describe_plan` told.

    Raises:
        KeyError, TypeError, ValueError, AssessorError: they are not such fields.
    """
    parts = body["decomposition"]
    advice = body.get("advice")  # plans made before there was any have none
    return {
        "method": str(body["method"]),
        "measure": str(body["measure"]),
        "threshold": str(body["threshold"]),
        "batch_size": _typed(body["batch_size"], int),
        "drop_last": _typed(body["drop_last"], bool),
        "n_rows": _typed(body["n_rows"], int),
        "order": SampleOrder.from_dict(body["order"]),
        "decomposition": None if parts is None else {str(k): float(v) for k, v in parts.items()},
        "action": str(body["action"]),
        "recommendation": str(body["recommendation"]),
        "notes": tuple(map(str, body["notes"])),
        "rule": _typed(body["rule"], dict),
        "advice": None if advice is None else Advice.from_dict(advice),
        "source_order": _digest(body.get("source_order")),
    }


def _digest(name: Any) -> str | None:
    if name is not None and not re.fullmatch("sha256:[0-9a-f]{64}", _typed(name, str)):
        raise ValueError(f"source_order {name!r:.80} is no sha256: and 64 hexadecimal digits")
    return None if name is None else str(name)


def encode_column(column: Floats) -> list[float | str | None]:
    """Return numbers as JSON holds them."""
    if np.isfinite(column).all():
        return [float(value) for value in column.tolist()]
    return [None if np.isnan(value) else value if np.isfinite(value) else str(value) for value in column.tolist()]


def decode_column(values: list[float | str | None]) -> Floats:
    """Return the numbers that `encode_column` told."""
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
