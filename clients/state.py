"""A loader's position as a JSON-able dict, and the check that it belongs to this loader."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from assessor import Plan
from clients.epochs import LAST_EPOCH
from clients.errors import StateError
from clients.layout import Layout
from clients.sampler import Run
from clients.steps import RUN, Numbers, in_runs

STATE_VERSION = 1


class Position(NamedTuple):
    """Where a saved run had come to: epoch, batches handed out, batch numbers handed out beyond those."""

    epoch: int
    handed: int
    ahead: list[int]


def dump_state(run: Run, layout: Layout, plan: Plan) -> dict[str, Any]:
    """Return a position with all that must be the same where it is loaded."""
    return {
        "epoch": run.epoch,
        "batches": run.handed,
        "ahead": sorted(run.ahead),
        "sampled": layout.source.digest(run.epoch),
        **_identity(layout, plan),
    }


def read_state(state: Mapping[str, Any], layout: Layout, plan: Plan) -> Position:
    """Return the position saved.

    Raises:
        StateError: names the first thing that differs.
    """
    if not isinstance(state, Mapping):
        raise StateError(f"expected a mapping made by state_dict; got {type(state).__name__}")
    for name, own in _identity(layout, plan).items():
        if state.get(name) != own:
            raise StateError(
                f"expected the state of a loader with {name}={own!r}; got {state.get(name)!r}: load it "
                "into a loader made with the same dataset, plan and settings"
            )
    try:
        epoch, batches = int(state["epoch"]), int(state["batches"])
        ahead = [int(index) for index in state["ahead"]]
    except (LookupError, TypeError, ValueError) as error:
        raise StateError(f"expected a state made by state_dict; its position cannot be read: {error!r}") from error
    if not 0 <= epoch <= LAST_EPOCH:
        raise StateError(f"expected an epoch from 0 to {LAST_EPOCH}; got {epoch}")
    sampled = layout.source.digest(epoch)
    if state.get("sampled") != sampled:
        raise StateError(
            f"expected the sampler to yield in epoch {epoch} what it yielded when the state was saved; it yields "
            "other batches: seed it, give it set_epoch, or let the loader draw them (reshuffle='batches')"
        )
    n_batches = len(layout.source.read(epoch)) // layout.world_size
    if not 0 <= batches <= n_batches:
        raise StateError(f"expected 0 to {n_batches} batches; got epoch {epoch}, {batches} batches")
    if ahead and (unknown := set(ahead) - set(_among(ahead, layout.dealt(epoch)[batches:]))):
        raise StateError(f"expected ahead to hold batches that were still to come; got {sorted(unknown)[:3]}")
    return Position(epoch, batches, ahead)


def _identity(layout: Layout, plan: Plan) -> dict[str, Any]:
    return {
        "version": STATE_VERSION,
        "fingerprint": layout.fingerprint,
        "decisions": _digest(plan),
        "seed": layout.seed,
        "shuffled": layout.shuffled,
        "reshuffle": layout.reshuffle,
        "world_size": layout.world_size,
    }


def _digest(plan: Plan) -> str:
    """Return a name for what the plan decides; scores that differ in rounding do not change it."""
    name = hashlib.sha256(f"{plan.method} {plan.threshold} {len(plan)} ".encode())
    for start in range(0, len(plan), RUN):
        name.update(plan.normalize[start : start + RUN].tobytes())
    return "sha256:" + name.hexdigest()


def _among(wanted: list[int], numbers: Numbers) -> list[int]:
    """Return which of some numbers are there."""
    return [number for places in in_runs(len(numbers)) for number in np.intersect1d(wanted, numbers[places]).tolist()]
