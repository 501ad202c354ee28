"""Plans in the terminal."""

import io

import numpy as np
import pytest
from rich.console import Console

from app.tables import make_console, plan_table, print_plan, score_quartiles, typical_decisions
from assessor import Plan, assess
from tests.app.support import rows


def printed(plan: Plan, *, width: int = 120, terminal: bool = False) -> str:
    """Return what print_plan prints."""
    stream = io.StringIO()
    print_plan(Console(file=stream, width=width, force_terminal=terminal, no_color=True, highlight=False), plan)
    return stream.getvalue()


def test_typical_decisions_are_lowest_middle_highest() -> None:
    plan = assess(rows(60), batch_size=4)
    picked = [decision.score for decision in typical_decisions(plan)]
    assert picked == [np.sort(plan.scores)[i] for i in (0, 7, 14)]


@pytest.mark.parametrize(("n", "count"), [(4, 1), (8, 2), (12, 3), (13, 3)])
def test_fewer_batches_than_three(n: int, count: int) -> None:
    assert len(typical_decisions(assess(rows(n), batch_size=4))) == count


def test_undefined_scores_stay_out() -> None:
    plan = assess(rows(13), batch_size=4)  # the last batch has one row
    assert np.isnan(plan.scores[3])
    assert all(not np.isnan(decision.score) for decision in typical_decisions(plan))
    assert not np.isnan(score_quartiles(plan)).any()


def test_no_defined_score_at_all() -> None:
    plan = assess(rows(3), batch_size=1)
    assert np.isnan(score_quartiles(plan)).all()
    assert "undefined" in printed(plan)


def test_infinite_scores_have_quartiles() -> None:
    plan = assess(np.array([[1.0, -1.0], [2.0, -2.0], [3.0, -2.0], [1.0, 0.0]] * 4), batch_size=2, method="published")
    assert not np.isnan(score_quartiles(plan)).any()


def test_quartiles_are_scores_that_occur() -> None:
    plan = assess(rows(200), batch_size=4)
    assert score_quartiles(plan) == tuple(np.sort(plan.scores)[[12, 24, 37]])


def test_reason_stands_on_one_line_when_piped_and_is_indented_on_a_terminal() -> None:
    plan = assess(rows(40), batch_size=4)
    reason = plan[0].reason if len(plan) == 1 else typical_decisions(plan)[0].reason
    assert reason in printed(plan, width=40)
    wrapped = printed(plan, width=40, terminal=True).splitlines()
    assert all(line.startswith("  ") or "batch size" in line or not line.strip() for line in wrapped)


def test_notes_are_not_read_as_markup() -> None:
    plan = assess(rows(40), batch_size=4)
    object.__setattr__(plan, "notes", ("[bold] stays",))
    assert "[bold] stays" in printed(plan)


def test_table_has_a_line_a_plan() -> None:
    plans = [assess(rows(40), batch_size=size) for size in (4, 8)]
    table = plan_table(plans, title="both")
    assert table.row_count == 2
    stream = io.StringIO()
    make_console(stream).print(table)
    assert "both" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
