"""`normgauge drift PATH... --against PROFILE`: how far new data has moved from earlier data."""

import argparse
import json
from pathlib import Path

import numpy as np

from app.commands.assess import decode_settings
from app.errors import CommandError, UsageError
from app.outcome import DIFFERENT, DONE
from app.reading import is_profile, load_profile, read_profile
from app.tables import make_console, print_drift
from assessor import measure_drift


def run(arguments: argparse.Namespace) -> int:
    """Print the drift; return the exit status."""
    if arguments.most < 0 or (arguments.fail_above is not None and not arguments.fail_above >= 0):
        raise UsageError("expected --most and --fail-above of at least 0; got less: leave them out or change them")
    against = Path(arguments.against)
    if not is_profile(against):
        raise CommandError(
            f"expected --against a saved profile; got {against}, which is none: make one with assess --profile"
        )
    earlier = load_profile(against)
    new = read_profile(
        [Path(path) for path in arguments.paths],
        batch_sizes=None,
        feature_axis=earlier.feature_axis,
        format=arguments.format,
        settings=decode_settings(arguments),
        nonfinite=arguments.nonfinite,
        show_progress=not arguments.quiet,
    )
    drift = measure_drift(new, earlier)
    if arguments.json:
        print(
            json.dumps(
                {
                    "total": _number(drift.total),
                    "noise": _number(drift.noise),
                    "n_compared": drift.n_compared,
                    "n_unlike": drift.n_unlike,
                    "n_rows": new.n_rows,
                    "features": [_number(value) for value in drift.features.tolist()],
                }
            )
        )
    elif not arguments.quiet:
        print_drift(make_console(), drift, new, earlier, most=arguments.most)
    limit = arguments.fail_above
    return DIFFERENT if limit is not None and (drift.n_unlike or drift.total > limit) else DONE


def _number(value: float) -> float | str | None:
    """Return a number for JSON: NaN is null, infinity is "inf", as in plan files."""
    if np.isfinite(value):
        return value
    return None if np.isnan(value) else str(value)
