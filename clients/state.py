"""A loader's position as a JSON-able dict, and the check that it belongs to this loader."""

import hashlib
from collections.abc import Mapping
from typing import Any

from assessor import Plan, fingerprint
from clients.errors import StateError
from clients.sampler import Layout, Run

STATE_VERSION = 1


def dump_state(run: Run, layout: Layout, plan: Plan) -> dict[str, Any]:
    """Return a position with all that must be the same where it is loaded."""
    return {
        "epoch": run.epoch,
        "batches": run.handed,
        "ahead": sorted(run.ahead),
        **_identity(layout, plan),
    }


def read_state(state: Mapping[str, Any], layout: Layout, plan: Plan) -> tuple[int, int, list[int]]:
    """Return (epoch, batches handed out in it, batch numbers handed out beyond those).

    Raises:
        StateError: names the first thing that differs.
    """
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
        raise StateError(f"expected a state made by state_dict; got one without {error}") from error
    n_batches = layout.n_batches // layout.world_size
    if epoch < 0 or not 0 <= batches <= n_batches:
        raise StateError(f"expected epoch >= 0 and 0 to {n_batches} batches; got epoch {epoch}, {batches} batches")
    return epoch, batches, ahead


def _identity(layout: Layout, plan: Plan) -> dict[str, Any]:
    return {
        "version": STATE_VERSION,
        "fingerprint": fingerprint(layout.order, layout.n_rows, layout.batch_size, layout.drop_last),
        "decisions": _digest(plan),
        "seed": layout.seed,
        "shuffled": layout.shuffled,
        "reshuffle": layout.reshuffle,
        "world_size": layout.world_size,
    }


def _digest(plan: Plan) -> str:
    """Return a name for what the plan decides; scores that differ in rounding do not change it."""
    text = f"{plan.method} {plan.threshold} {len(plan)} ".encode()
    return "sha256:" + hashlib.sha256(text + plan.normalize.tobytes()).hexdigest()
