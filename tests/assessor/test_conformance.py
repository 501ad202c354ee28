"""What every registered measure with every registered threshold must do."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from assessor import Plan, SettingError, make_plan, measures, merge, methods, profile_array, thresholds
from tests.assessor.measured import mixed

X = mixed(rows=90)
LABELS = np.arange(90) % 3
REFERENCE = profile_array(X, batch_sizes=[8])
SETTINGS = {"batch_sizes": [8], "reference": REFERENCE}
PROFILE = profile_array(X, labels=LABELS, **SETTINGS)  # type: ignore[arg-type]  # a dict of keywords
ARGUMENTS = {"fixed": "0.2", "null": "0.05", "mean_std": "1", "median_mad": "2", "quantile": "0.75", "max": "fixed(0)"}
WITHOUT_NULL = ("class_deviation", "population_divergence", "scale_dispersion", "standard_divergence")


@pytest.mark.parametrize("threshold", thresholds.names())
@pytest.mark.parametrize("measure", measures.names())
def test_every_measure_with_every_threshold(measure: str, threshold: str) -> None:
    text = f"{threshold}({ARGUMENTS.get(threshold, '')})"
    if threshold == "null" and measure in WITHOUT_NULL:
        with pytest.raises(SettingError, match="expected a measure with a null"):
            make_plan(PROFILE, method=measure, threshold=text)
        return
    plan = make_plan(PROFILE, method=measure, threshold=text)
    assert (plan.measure, plan.threshold, len(plan)) == (measure, text, 12)
    with np.errstate(invalid="ignore"):
        assert_array_equal(plan.normalize, plan.scores > plan.cutoffs)
    assert np.isfinite(plan.cutoffs).all()
    assert json.loads(json.dumps(dict(plan.rule), allow_nan=False))["measure"] == measure
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()
    assert all(decision.reason for decision in plan)
    parts = [
        profile_array(X[a:b], labels=LABELS[a:b], first_row=a, **SETTINGS)  # type: ignore[arg-type]
        for a, b in ((50, 90), (0, 13), (13, 50))
    ]
    assert make_plan(merge(parts), method=measure, threshold=text).to_json() == plan.to_json()


@pytest.mark.parametrize("measure", measures.names())
def test_a_measure_alone_needs_a_threshold(measure: str) -> None:
    with pytest.raises(SettingError, match=f"expected a threshold for the measure '{measure}'"):
        make_plan(PROFILE, method=measure)


@pytest.mark.parametrize("method", methods.names())
def test_a_method_is_its_measure_with_its_threshold(method: str) -> None:
    entry = methods.get(method)
    by_method, by_measure = (
        make_plan(PROFILE, method=method),
        make_plan(PROFILE, method=entry.measure, threshold=entry.threshold),
    )
    assert_array_equal(by_method.scores, by_measure.scores)
    assert_array_equal(by_method.normalize, by_measure.normalize)
