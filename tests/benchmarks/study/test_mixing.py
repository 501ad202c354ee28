"""Question 4: the planted order of arms and of evaluation modes is told."""

from dataclasses import replace

import pytest

from benchmarks.study.gathered import gather
from benchmarks.study.mixing import GATE, difference, mixture, section
from benchmarks.study.records import Result, Setting
from tests.benchmarks.study import synthetic


@pytest.mark.parametrize(
    ("treatment", "expected"),
    [
        ("mixed(2,between)", (2, "between", 0.5)),
        ("mixed(8,within,0.1)", (8, "within", 0.1)),
        ("scales(2)", (1, "", 1.0)),
    ],
)
def test_mixtures_are_read_from_their_names(treatment: str, expected: tuple[int, str, float]) -> None:
    assert mixture(Setting("sources", "digits", treatment, "mlp", 4, "sgd", 10)) == expected


def test_planted_differences_are_found() -> None:
    cells = gather(synthetic.sources(), "sources")
    assert difference(cells, GATE, "layer").value == pytest.approx(5, abs=0.3)
    assert difference(cells, GATE, GATE, "running/B", "threshold/B").value == pytest.approx(-20)
    found = section(cells)
    assert found is not None
    assert "better than layer norm (+5." in found.answer
    assert f"The best gate is `{GATE}`." in found.answer
    assert "running statistics instead of the rule by -20.0 points" in found.answer


def test_single_samples_are_compared_with_layer_norm() -> None:
    # At one sample the gate gets what it gets in batches, 5 points more than layer norm, or, spoilt, 15 less.
    good = section(gather(synthetic.sources(), "sources"))
    assert good is not None
    assert "In evaluation batches of one sample it is better than layer norm (+5." in good.answer
    spoilt = [
        replace(r, runs=tuple(replace(run, accuracy={**run.accuracy, "threshold/1": 0.7}) for run in r.runs))
        if isinstance(r, Result) and r.arm == GATE
        else r
        for r in synthetic.sources()
    ]
    bad = section(gather(spoilt, "sources"))
    assert bad is not None
    assert "In evaluation batches of one sample it is worse than layer norm (-15." in bad.answer
