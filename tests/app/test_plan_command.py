"""`normgauge plan`: what it says of saved plans and profiles, and with which status."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from assessor import Plan, assess, make_plan, profile_array
from tests.app.support import npy, rows
from tests.app.test_cli import fail


def two_sources() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return 80 rows, of which rows 40 and on are far from standardized."""
    x = np.random.default_rng(0).normal(size=(80, 12))
    x[40:] = x[40:] * 3 + 2
    return x.astype(np.float32)


@pytest.fixture
def plan(tmp_path: Path) -> tuple[str, Plan]:
    """A plan of ten batches, five of them flagged, and its file."""
    made = assess(two_sources(), batch_size=8)
    assert made.normalize.tolist() == [False] * 5 + [True] * 5
    made.save(tmp_path / "plan.json")
    return str(tmp_path / "plan.json"), made


@pytest.fixture
def profile(tmp_path: Path) -> str:
    """A saved profile of the same rows at two batch sizes."""
    (tmp_path / "x.npy").write_bytes(npy(two_sources()))
    target = str(tmp_path / "x.profile")
    assert main(["assess", str(tmp_path / "x.npy"), "--batch-size", "8,16", "--profile", target, "--quiet"]) == 0
    return target


def test_show_prints_the_plan(capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan]) -> None:
    path, made = plan
    assert main(["plan", "show", path]) == 0
    out = capsys.readouterr().out
    assert re.search(r"8 +need +10 +5 +50\.0% +1 ", out)
    assert made.recommendation in out
    assert made.fingerprint in out
    assert "80 rows in batches of 8, order {'kind': 'rows'}" in out
    assert f"threshold {made.threshold}, action {made.action}" in out


@pytest.mark.parametrize(
    ("which", "numbers"),
    [("flagged", range(5, 10)), ("all", range(10)), ("0", [0]), ("9,2-4", [9, 2, 3, 4])],
)
def test_show_lists_the_batches_asked_for(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], which: str, numbers: list[int]
) -> None:
    path, made = plan
    assert main(["plan", "show", path, "--batches", which]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == [f"batch {i}" for i in numbers]
    assert [line.split("; ", 1)[1] for line in lines] == [made[i].reason for i in numbers]
    assert main(["plan", "show", path, "--batches", which, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(item["index"], item["normalize"], item["score"]) for item in found] == [
        (i, bool(made.normalize[i]), made.scores[i]) for i in numbers
    ]


def test_undefined_and_infinite_scores_are_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assess(rows(3), batch_size=1).save(tmp_path / "p.json")
    main(["plan", "show", str(tmp_path / "p.json"), "--batches", "0", "--json"])
    assert json.loads(capsys.readouterr().out)["score"] is None
    x = np.array([[1.0, -1.0], [2.0, -3.0], [1.0, 1.0], [-1.0, 0.0]])
    plan = assess(x, batch_size=2, method="published")
    assert np.isinf(plan.scores[0])
    plan.save(tmp_path / "p.json")
    main(["plan", "show", str(tmp_path / "p.json"), "--batches", "0", "--json"])
    assert json.loads(capsys.readouterr().out)["score"] == "inf"


@pytest.mark.parametrize("which", ["10", "3-1", "x", "", "1,", "1-2-3", "-1"])
def test_batches_that_are_none(capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], which: str) -> None:
    assert "flagged or numbers from 0 to 9, as in" in fail(capsys, "plan", "show", plan[0], f"--batches={which}")


def test_diff_of_equal_plans(capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan]) -> None:
    assert main(["plan", "diff", plan[0], plan[0]]) == 0
    assert "0 of 10 batches are decided differently" in capsys.readouterr().out


def test_diff_names_the_batches(capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], tmp_path: Path) -> None:
    path, made = plan
    cutoff = float(np.sort(made.scores)[-3])  # a tie is skipped: two batches stay flagged
    other = assess(two_sources(), batch_size=8, threshold=cutoff)
    other.save(tmp_path / "other.json")
    differing = np.flatnonzero(made.normalize != other.normalize).tolist()
    assert len(differing) == 3
    assert main(["plan", "diff", path, str(tmp_path / "other.json")]) == 3
    out = capsys.readouterr().out
    assert re.search(r"share +50\.0% +20\.0%", out)
    assert re.search(rf"cutoff +1 +{cutoff:.4g}", out)
    assert re.search(r"flagged +5 +2", out)
    assert re.findall(r"batch (\d+): normalize .* in A, skip .* in B", out) == [str(i) for i in differing]
    assert "largest change of a score: 0" in out
    assert main(["plan", "diff", path, str(tmp_path / "other.json"), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["differing"] == differing
    assert found["flagged_fraction"] == [0.5, 0.2]
    assert found["cutoff"] == [1.0, cutoff]
    assert list(found["settings"]) == ["threshold"]


def test_diff_lists_twenty_unless_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, threshold in (("a", 0.0), ("b", 1e9)):
        assess(two_sources() + 1, batch_size=2, threshold=threshold).save(tmp_path / f"{name}.json")
    paths = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    main(["plan", "diff", *paths])
    out = capsys.readouterr().out
    assert out.count(" in A, ") == 21  # 20 batches and the threshold
    total = int(re.search(r"(\d+) of 40 batches", out)[1])  # type: ignore[index]  # it is there
    assert f"and {total - 20} more; --all lists them" in out
    main(["plan", "diff", *paths, "--all"])
    assert capsys.readouterr().out.count(" in A, ") == total + 1


def test_diff_of_plans_for_other_batches(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], tmp_path: Path
) -> None:
    assess(two_sources(), batch_size=16).save(tmp_path / "other.json")
    assert main(["plan", "diff", plan[0], str(tmp_path / "other.json")]) == 3
    out = capsys.readouterr().out
    assert "batch_size: 8 in A, 16 in B" in out
    assert "the plans are for other batches" in out
    main(["plan", "diff", plan[0], str(tmp_path / "other.json"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["same"], found["same_batches"], found["differing"]) == (False, False, None)


def test_diff_of_sources_in_another_order(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], tmp_path: Path
) -> None:
    for name, digit in (("a", "0"), ("b", "1")):
        replace(plan[1], source_order="sha256:" + digit * 64).save(tmp_path / f"{name}.json")
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert main(["plan", "diff", a, b]) == 3
    assert "the plans are for other batches" in capsys.readouterr().out
    assert main(["plan", "diff", a, plan[0]]) == 0  # an array's plan, which names no order
    assert "source_order: sha256:0" in capsys.readouterr().out


def test_diff_where_scores_change_but_no_decision(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], tmp_path: Path
) -> None:
    path, made = plan
    other = assess(two_sources() * np.float32(1.001), batch_size=8)
    other.save(tmp_path / "other.json")
    assert main(["plan", "diff", path, str(tmp_path / "other.json")]) == 0
    change = np.abs(made.scores - other.scores).max()
    assert f"largest change of a score: {change:.4g}" in capsys.readouterr().out


def test_what_if_from_a_plan_is_assess_with_that_threshold(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], tmp_path: Path
) -> None:
    pattern = str(tmp_path / "what-{threshold}.json")
    assert main(["plan", "what-if", plan[0], "--threshold", "0.1, max(fixed(2), fixed(3))", "--save", pattern]) == 0
    out = capsys.readouterr().out
    for threshold, name in (("0.1", "fixed(0.1)"), ("max(fixed(2), fixed(3))",) * 2):
        expected = assess(two_sources(), batch_size=8, threshold=threshold)
        found = Plan.load(tmp_path / f"what-{name.replace(' ', '')}.json")
        assert found.normalize.tolist() == expected.normalize.tolist()
        assert found.cutoffs.tolist() == expected.cutoffs.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
        assert (found.threshold, found.rule["cutoff"]) == (expected.threshold, expected.rule["cutoff"])
        assert found.fingerprint == expected.fingerprint
        assert f"a plan made with {plan[1].threshold}" in found.notes[-1]
        changed = int((expected.normalize != plan[1].normalize).sum())
        assert f"{expected.threshold}: {changed} of 10 decisions change" in out


def test_what_if_from_a_plan_gives_advice_only_where_none_is_needed(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan]
) -> None:
    main(["plan", "what-if", plan[0], "--threshold", "1e9,0.1", "--json"])
    high, low = (Plan.from_json(line) for line in capsys.readouterr().out.splitlines())
    assert (high.action, high.flagged_fraction) == ("nothing", 0)
    assert low.action == "unknown"
    assert "plan what-if PROFILE" in low.recommendation


def test_what_if_from_a_profile_is_assess(capsys: pytest.CaptureFixture[str], profile: str) -> None:
    assert main(["plan", "what-if", profile, "--threshold", "0.5,2", "--method", "need,published", "--json"]) == 0
    whole = profile_array(two_sources(), batch_sizes=[8, 16])
    expected = [
        make_plan(whole, batch_size=size, method=method, threshold=threshold).to_json()
        for size in (8, 16)
        for method in ("need", "published")
        for threshold in (0.5, 2)
    ]
    assert capsys.readouterr().out.splitlines() == expected
    assert main(["plan", "what-if", profile, "--batch-size", "16", "--drop-last", "--json"]) == 0
    assert capsys.readouterr().out == make_plan(whole, batch_size=16, drop_last=True).to_json() + "\n"


def test_what_if_table_tells_thresholds_apart(capsys: pytest.CaptureFixture[str], profile: str) -> None:
    main(["plan", "what-if", profile, "--batch-size", "8", "--threshold", "1,1e9"])
    out = capsys.readouterr().out
    assert re.search(r"need +fixed\(1\) +10 +5 +50\.0%", out)
    assert re.search(r"need +fixed\(1e\+09\) +10 +0 +0\.0%", out)
    assert "80 rows of 12 features (float32)" in out


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 0), (["--fail-on", "flagged"], 3), (["--fail-on", "50%"], 0), (["--fail-on", "0.49"], 3)],
)
def test_fail_on(plan: tuple[str, Plan], profile: str, arguments: list[str], status: int) -> None:
    assert main(["plan", "show", plan[0], *arguments]) == status
    assert main(["plan", "what-if", plan[0], "--threshold", "1", *arguments]) == status
    assert main(["plan", "what-if", profile, "--batch-size", "8", *arguments]) == status
    assert main(["assess", profile, "--batch-size", "8", "--quiet", *arguments]) == status


def test_fail_on_with_nothing_to_go_by(tmp_path: Path) -> None:
    assess(rows(3), batch_size=1).save(tmp_path / "p.json")
    assert main(["plan", "show", str(tmp_path / "p.json"), "--fail-on", "flagged"]) == 4


@pytest.mark.parametrize("when", ["many", "-1", "101%", "nan", "5 %%", ""])
def test_fail_on_of_another_form(capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], when: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "show", plan[0], f"--fail-on={when}"])
    assert stopped.value.code == 2
    assert "expected flagged, or a share such as 5% or 0.05" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["what-if", "{plan}", "--threshold", "null(0.01)"], r"whose null\(0.01\) comes from the data's profile: pass"),
        (["what-if", "{plan}", "--threshold", "high"], "expected a threshold among|expected a threshold"),
        (["what-if", "{plan}", "--threshold", "1,2", "--save", "x.json"], "a file name for each plan"),
        (["what-if", "{plan}", "--threshold", "2", "--save", "{plan}"], "another file to write to"),
        (["what-if", "{plan}", "--threshold", "1,1.0", "--save", "{{threshold}}.json"], "a file name for each plan"),
        (["what-if", "{profile}", "--batch-size", "5"], r"profiled \(8, 16\); got 5"),
        (["what-if", "{profile}", "--batch-size", "0"], "at least 1; got 0"),
        (["what-if", "{profile}", "--method", "magic"], "got 'magic'"),
        (["what-if", "{profile}", "--threshold", "1", "--save", "x.json"], "for 2 plans"),
        (["what-if", "missing.json", "--threshold", "1"], "got missing.json, which is none: check the path"),
        (["show", "{profile}"], "expected the file of a plan; got the profile {profile}: normgauge plan what-if makes"),
        (["show", "{shard}"], "{shard}: expected a plan in JSON.*got other bytes: a plan's file is made by Plan.save"),
        (["show", "missing.json"], "expected the file of a plan; got missing.json, which is none: check the path"),
        (["diff", "{plan}", "{profile}"], "expected the file of a plan; got the profile {profile}"),
    ],
)
def test_refusals(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], profile: str, arguments: list[str], words: str
) -> None:
    shard = str(Path(profile).with_name("x.npy"))
    filled = [argument.format(plan=plan[0], profile=profile, shard=shard) for argument in arguments]
    expected = words.replace("{profile}", re.escape(profile)).replace("{shard}", re.escape(shard))
    assert re.search(expected, fail(capsys, "plan", *filled))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected --threshold for a plan; got none: give one, as in --threshold 0.5"),
        (["--threshold", "1", "--method", "need"], "expected --threshold alone for a plan, which holds scores only"),
        (["--drop-last"], "got options of a profile: pass a profile saved with assess --profile"),
    ],
)
def test_what_if_from_a_plan_takes_thresholds_only(
    capsys: pytest.CaptureFixture[str], plan: tuple[str, Plan], arguments: list[str], words: str
) -> None:
    assert main(["plan", "what-if", plan[0], *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("action", ["show", "diff", "what-if"])
def test_each_action_has_help_with_examples_and_statuses(capsys: pytest.CaptureFixture[str], action: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", action, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert f"normgauge plan {action}" in out.split("Example")[1]
    assert re.search(r"exit status:\n +0 +done\n", out)
    assert re.search(r"\n +3 +", out)
