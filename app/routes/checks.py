"""Checks that several endpoints make before they read a body."""

from collections.abc import Sequence

from app.problems import ProblemError
from app.settings import Settings
from assessor.methods import choose
from assessor.thresholds import parse_threshold


def check_batch_sizes(batch_sizes: Sequence[int], settings: Settings) -> None:
    """Check batch sizes against the service's limits; that they are >= 1 is checked by the assessor.

    Raises:
        ProblemError: too many, or one too large ("too-many-batch-sizes", "batch-size-too-large").
    """
    if len(batch_sizes) > settings.max_batch_sizes:
        raise ProblemError(
            "too-many-batch-sizes",
            f"expected at most {settings.max_batch_sizes} batch sizes; got {len(batch_sizes)}; "
            "leave some out or raise NORMGAUGE_MAX_BATCH_SIZES",
        )
    largest = max(batch_sizes, default=0)
    if largest > settings.max_batch_size:
        raise ProblemError(
            "batch-size-too-large",
            f"expected batch sizes of at most {settings.max_batch_size}; got {largest}; "
            "take a smaller one or raise NORMGAUGE_MAX_BATCH_SIZE",
        )


def check_method(method: str, threshold: str | None) -> None:
    """Check the names in a method and a threshold, so that a typing error costs no upload.

    Raises:
        UnknownNameError, SettingError: as `assessor.make_plan`.
    """
    choose(method, threshold)
    if threshold is not None:
        parse_threshold(threshold)
