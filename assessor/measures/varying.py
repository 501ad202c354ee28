"""What the measures over the varying features of a batch share: where they are defined, and what they leave out."""

import numpy as np
from numpy.typing import NDArray

from assessor.view import BatchView


def defined_batches(view: BatchView, at_least: int = 1) -> NDArray[np.bool_]:
    """Return which batches have two values per feature and so many features that vary, shape (batches,)."""
    return np.asarray((view.counts >= 2) & (view.records["n_varying"] >= at_least))


def notes_on(view: BatchView, defined: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return what was left out of scores over the varying features, and how many scores are undefined."""
    notes = []
    n_constant = view.profile.n_features - view.records["n_varying"]
    if n_constant.any():
        notes.append(
            f"features constant within a batch are left out: {n_constant.mean():.1f} of "
            f"{view.profile.n_features} in an average batch"
        )
    if not defined.all():
        notes.append(
            f"{int((~defined).sum())} batches have one value per feature or too few features that vary: "
            "their score is undefined"
        )
    return tuple(notes)
