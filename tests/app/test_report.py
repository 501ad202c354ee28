"""The report: the plans' own figures, nothing from elsewhere, at most 1 MB."""

import re
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.report import MAX_BYTES, draw_report, render_report
from app.report.blind_spots import OF_ALL, OF_MEASURE
from app.report.drawing import drawing, new_figure
from app.report.page import MAX_DETAILED, MAX_LISTED
from app.report.scale import ScoreScale
from app.report.scores import draw_scores
from app.tables import score_quartiles
from assessor import Plan, Profile, make_plan, measures, methods, profile_array
from tests.app.pages import Page
from tests.app.support import rows


def images(n: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return n samples whose features differ in mean and scale."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(size=shape))
    return (rng.normal(size=(n, *shape)) * scales + rng.normal(size=shape)).astype(np.float32)


def plans_of(profile: Profile, *names: str) -> list[Plan]:
    """Return the plans of all batch sizes for these methods."""
    return [make_plan(profile, batch_size=size, method=name) for size in profile.batch_sizes for name in names]


def check_stands_alone(page: Page) -> None:
    """Check that the page loads nothing, runs nothing and refers to itself only."""
    assert not {"script", "link", "iframe", "object", "embed", "img", "form"} & set(page.tags)
    for reference in page.references:
        assert reference.startswith(("#", "data:image/png;base64,")), reference[:80]
    assert "http" not in re.sub("base64,[A-Za-z0-9+/=]*", "", page.html)  # where any four letters may come by chance
    assert "@import" not in page.html
    assert {reference[1:] for reference in page.references if reference.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_holds_the_figures_of_the_plans() -> None:
    profile = profile_array(images(200, (6, 5)), batch_sizes=[4, 16], labels=np.arange(200) % 2)
    plans = plans_of(profile, "need", "heterogeneity", "published")
    page = Page(render_report(plans, profile=profile, title="six by five"))
    check_stands_alone(page)
    assert page.headings[0] == "Does six by five need normalization?"
    assert "200 rows of 30 features (samples of shape 6 x 5, float32, labelled)" in page.text
    table = [row for row in page.rows if len(row) == 9 and row[0].isdigit()]
    assert len(table) == len(plans)
    for row, plan in zip(table, plans, strict=True):
        low, middle, high = score_quartiles(plan)
        assert row[:5] == [
            str(plan.batch_size),
            plan.method,
            str(int(plan.normalize.sum())),
            str(len(plan)),
            f"{plan.flagged_fraction:.1%}",
        ]
        assert row[6].split()[0] == f"{np.median(plan.cutoffs):.4g}"
        assert row[7:] == [f"{middle:.4g}", f"{low:.4g} to {high:.4g}"]
        assert plan.recommendation in page.text
        assert plan.fingerprint in page.text
        for note in plan.notes:
            assert note in page.text
        if plan.decomposition is not None:
            assert f"drift {plan.decomposition['drift']:.4g}" in page.text


def test_plots_are_described() -> None:
    profile = profile_array(images(200, (6, 5)), batch_sizes=[4, 16])
    plans = plans_of(profile, "need")
    page = Page(render_report(plans, profile=profile))
    assert len(page.descriptions) == page.tags.count("svg") == 3 + 3 * len(plans)
    shares, parts, pictures = page.descriptions[:3]
    assert shares == f"flagged share: need {plans[0].flagged_fraction:.1%} at 4, {plans[1].flagged_fraction:.1%} at 16"
    assert plans[0].decomposition is not None
    assert f"batch size 4: global {plans[0].decomposition['global']:.4g}" in parts
    mean = profile.moments.mean
    assert f"mean {mean.min():.4g} to {mean.max():.4g}" in pictures
    for i, plan in enumerate(plans):
        said = "\n".join(page.descriptions[3 + 3 * i : 6 + 3 * i])
        assert "expected points over doing nothing: " in said
        assert f"scores from {plan.scores.min():.4g} to {plan.scores.max():.4g} nats" in said
        assert f"{int(plan.normalize.sum())} of {len(plan)} batches ({plan.flagged_fraction:.1%})" in said


def test_says_what_each_method_cannot_see() -> None:
    x = rows(40)
    page = Page(render_report([make_plan(profile_array(x, batch_sizes=[8]), method="published")]))
    for text in (*OF_MEASURE["class_deviation"], *OF_ALL):
        assert text in page.text
    assert OF_MEASURE["standard_divergence"][0] not in page.text


def test_every_registered_method_has_blind_spots() -> None:
    assert {methods.get(name).measure for name in methods.names()} <= set(OF_MEASURE) <= set(measures.names())


def test_from_plans_alone() -> None:
    plan = make_plan(profile_array(rows(40), batch_sizes=[8]))
    page = Page(render_report([plan]))
    check_stands_alone(page)
    assert "Plans hold scores only." in page.text
    assert "40 rows. This page holds aggregates only" in page.text


def test_plans_with_several_thresholds_are_told_apart() -> None:
    profile = profile_array(rows(40), batch_sizes=[4, 8])
    plans = [make_plan(profile, batch_size=b, threshold=t) for b in (4, 8) for t in (1, 1e9)]
    page = Page(render_report(plans, profile=profile))
    assert [row[1] for row in page.rows if len(row) == 9 and row[0].isdigit()] == [
        "need, fixed(1)",
        "need, fixed(1e+09)",
    ] * 2
    assert "need, fixed(1e+09): nothing to do at every batch size assessed" in page.text


def test_few_rows_are_not_shown_by_feature() -> None:
    x = images(6, (4, 4))
    profile = profile_array(x, batch_sizes=[2])
    page = Page(render_report([make_plan(profile)], profile=profile))
    assert "fewer than 8 rows" in page.text
    assert not any("by position" in text for text in page.descriptions)
    assert not [row for row in page.rows if len(row) == 7]


def test_titles_and_notes_are_escaped_and_clipped() -> None:
    plan = replace(make_plan(profile_array(rows(40), batch_sizes=[8])), notes=("<b>bold</b>", "x" * 5_000))
    html = render_report([plan], title="<script>alert(1)</script>")
    page = Page(html)
    check_stands_alone(page)
    assert "<b>bold</b>" in page.text
    assert "<script>alert(1)</script>" in page.headings[0]
    assert "x" * 1_000 + "..." in page.text
    assert "x" * 1_001 not in page.text


def test_scores_that_are_undefined_or_infinite() -> None:
    nothing = make_plan(profile_array(rows(10), batch_sizes=[1]))
    assert "no batch of 10 has a defined score" in Page(render_report([nothing])).descriptions[0]
    x = np.array([[1.0, -1.0], [2.0, -3.0], [1.0, 1.0], [-1.0, 0.0]] * 5)
    infinite = make_plan(profile_array(x, batch_sizes=[2]), method="published")
    assert np.isinf(infinite.scores).any()
    assert "to inf;" in Page(render_report([infinite])).descriptions[0]
    constant = make_plan(profile_array(np.ones((20, 3)), batch_sizes=[4]))
    profile = profile_array(np.ones((20, 3)), batch_sizes=[4])
    assert "either no feature varies" in Page(render_report([constant], profile=profile)).text
    for plan in (nothing, infinite, constant):
        assert draw_report([plan]).startswith(b"\x89PNG")


@pytest.mark.parametrize("rows_left", [0, 1])
def test_the_cutoff_is_drawn_also_where_the_last_batch_has_no_score(rows_left: int) -> None:
    plan = make_plan(profile_array(rows(40 + rows_left), batch_sizes=[4]))
    assert np.isnan(plan.scores).sum() == rows_left
    with drawing():
        _, axes = new_figure()
        draw_scores(axes, plan)
    cutoff = float(ScoreScale.of(plan).place(plan.cutoffs[:1])[0])
    across = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [set(np.asarray(line.get_ydata()).tolist()) for line in across] == [{cutoff}]
    assert np.ptp(np.asarray(across[0].get_xdata(), np.float64)) > 0


def test_the_same_plans_give_the_same_bytes() -> None:
    profile = profile_array(images(60, (3, 4, 4)), batch_sizes=[4])
    plans = plans_of(profile, "need")
    assert render_report(plans, profile=profile) == render_report(plans, profile=profile)
    assert draw_report(plans, profile=profile) == draw_report(plans, profile=profile)


def test_no_plan() -> None:
    for make in (render_report, draw_report):
        with pytest.raises(ValueError, match="at least one plan for a report; got none"):
            make([])


def million() -> Plan:
    """Return a plan of 1,000,000 batches, of two kinds."""
    plan = make_plan(profile_array(rows(400), batch_sizes=[4]))
    scores = np.random.default_rng(0).normal(size=1_000_000)
    scores[700_000:] += 50
    return replace(
        plan,
        n_rows=4_000_000,
        scores=scores,
        cutoffs=np.broadcast_to(np.float64(1), scores.shape),
        normalize=scores > 1,
        details={name: np.resize(column, len(scores)) for name, column in plan.details.items()},
    )


def test_a_million_batches_stay_below_a_megabyte() -> None:
    plan = million()
    html = render_report([plan, replace(plan, method="other")])
    page = Page(html)
    check_stands_alone(page)
    assert len(html.encode()) < MAX_BYTES == 1_000_000
    assert f"{int(plan.normalize.sum()):,} of 1,000,000 batches" in page.descriptions[2]
    assert len(draw_report([plan])) < MAX_BYTES


def test_many_plans_and_features_stay_below_a_megabyte() -> None:
    x = images(40, (4, 200, 200))
    profile = profile_array(x, batch_sizes=[8])
    plan = make_plan(profile)
    plans = [replace(plan, method=f"method {i}") for i in range(MAX_LISTED + 5)]
    html = render_report(plans, profile=profile)
    page = Page(html)
    assert len(html.encode()) < MAX_BYTES
    assert len([row for row in page.rows if len(row) == 9 and row[0].isdigit()]) == MAX_LISTED
    assert "5 more plans are left out of this page" in page.text
    assert f"{len(plans) - MAX_DETAILED} more plans are in the table above only" in page.text


def test_picture_has_a_panel_for_each_plan() -> None:
    profile = profile_array(images(60, (5, 5)), batch_sizes=[4, 8])
    small = draw_report(plans_of(profile, "need")[:1], profile=profile)
    large = draw_report(plans_of(profile, "need", "published"), profile=profile, title="x" * 500)
    sizes = [struct.unpack(">II", png[16:24]) for png in (small, large)]
    assert sizes[0][0] == sizes[1][0] == 1210
    assert sizes[1][1] - sizes[0][1] == pytest.approx(3 * 3.2 * 110, abs=3)
