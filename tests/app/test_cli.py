"""The command line: what it prints, what it refuses, with which status."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.cli import build_parser, main
from assessor import Plan, make_plan, profile_array
from tests.app.support import npy, rows, safetensors

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """Paths of two files that hold rows(50) one after another."""
    x = rows(50)
    (tmp_path / "a.npy").write_bytes(npy(x[:21]))
    (tmp_path / "b.safetensors").write_bytes(safetensors(x[21:]))
    return [str(tmp_path / "a.npy"), str(tmp_path / "b.safetensors")]


def fail(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line on standard error with which a command ends in status 1."""
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("normgauge: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_assess_prints_a_line_a_plan_and_the_reasons(capsys: pytest.CaptureFixture[str], shards: list[str]) -> None:
    assert main(["assess", *shards, "--batch-size", "8,16", "--method", "need,heterogeneity"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # no progress bar where standard error is no terminal
    assert "50 rows of 6 features (float32) in 2 file(s)" in captured.out
    profile = profile_array(rows(50), batch_sizes=[8, 16])
    for batch_size in (8, 16):
        for method in ("need", "heterogeneity"):
            plan = make_plan(profile, method=method, batch_size=batch_size)
            line = rf"{batch_size} +{method} +{len(plan)} +{int(plan.normalize.sum())} +{plan.flagged_fraction:.1%} "
            assert re.search(line, captured.out)
            assert plan.recommendation in captured.out
    decomposition = make_plan(profile, batch_size=8).decomposition
    assert decomposition is not None
    assert f"drift {decomposition['drift']:.4g}" in captured.out
    assert captured.out.count("decomposition") == 2  # of need only
    assert captured.out.count("cutoff ") >= 12  # three reasons a plan


def test_json_is_the_plan(capsys: pytest.CaptureFixture[str], shards: list[str]) -> None:
    assert main(["assess", *shards, "--batch-size", "8", "--json"]) == 0
    expected = make_plan(profile_array(rows(50), batch_sizes=[8]))
    assert capsys.readouterr().out == expected.to_json() + "\n"


def test_json_of_several_plans_is_one_a_line(capsys: pytest.CaptureFixture[str], shards: list[str]) -> None:
    main(["assess", *shards, "--batch-size", "8,16", "--method", "need, published", "--json"])
    plans = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(plan["batch_size"], plan["method"]) for plan in plans] == [
        (8, "need"),
        (8, "published"),
        (16, "need"),
        (16, "published"),
    ]


def test_saved_plan_is_the_plan(capsys: pytest.CaptureFixture[str], shards: list[str], tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    arguments = ["--batch-size", "8", "--threshold", "0.25", "--drop-last", "--save", str(target)]
    assert main(["assess", *shards, *arguments]) == 0
    expected = make_plan(profile_array(rows(50), batch_sizes=[8]), threshold=0.25, drop_last=True)
    assert Plan.load(target).to_json() == expected.to_json()
    assert "nats" in capsys.readouterr().out


def test_several_plans_are_saved_under_names_of_their_own(shards: list[str], tmp_path: Path) -> None:
    pattern = str(tmp_path / "{method}-{batch_size}.json")
    assert main(["assess", *shards, "--batch-size", "8,16", "--method", "need,published", "--save", pattern]) == 0
    for method in ("need", "published"):
        for batch_size in (8, 16):
            plan = Plan.load(tmp_path / f"{method}-{batch_size}.json")
            assert (plan.method, plan.batch_size) == (method, batch_size)


def test_options_reach_only_the_methods_that_take_them(capsys: pytest.CaptureFixture[str], shards: list[str]) -> None:
    arguments = ["--batch-size", "8", "--method", "need,heterogeneity", "--null", "normal", "--json"]
    assert main(["assess", *shards, *arguments]) == 0
    profile = profile_array(rows(50), batch_sizes=[8])
    expected = [make_plan(profile), make_plan(profile, method="heterogeneity", null="normal")]
    assert capsys.readouterr().out.splitlines() == [plan.to_json() for plan in expected]


def test_a_measure_and_a_threshold_by_name(capsys: pytest.CaptureFixture[str], shards: list[str]) -> None:
    arguments = ["--batch-size", "8", "--method", "bartlett,location_share", "--threshold", "quantile:0.8"]
    assert main(["assess", *shards, *arguments, "--corrected", "--json"]) == 0
    profile = profile_array(rows(50), batch_sizes=[8])
    expected = [
        make_plan(profile, method="bartlett", threshold="quantile(0.8)"),
        make_plan(profile, method="location_share", threshold="quantile(0.8)", corrected=True),
    ]
    assert capsys.readouterr().out.splitlines() == [plan.to_json() for plan in expected]


def test_what_is_named_twice_is_made_once(capsys: pytest.CaptureFixture[str], shards: list[str]) -> None:
    assert main(["assess", *shards, "--batch-size", "8,4,8", "--method", "need,published,need", "--json"]) == 0
    plans = [Plan.from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [(plan.batch_size, plan.method) for plan in plans] == [
        (8, "need"),
        (8, "published"),
        (4, "need"),
        (4, "published"),
    ]


def test_rows_that_are_not_finite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = rows(40).astype(float)
    x[9, 2] = np.nan
    text = "\n".join(",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in x)
    (tmp_path / "x.csv").write_text("a,b,c,d,e,f\n" + text)
    arguments = [str(tmp_path / "x.csv"), "--batch-size", "8"]
    assert "row 9, column 'c' is ''" in fail(capsys, "assess", *arguments)
    saved = str(tmp_path / "x.profile")
    for policy in ("exclude", "normalize"):
        assert main(["assess", *arguments, "--nonfinite", policy, "--json", "--profile", saved]) == 0
        expected = make_plan(profile_array(x, batch_sizes=[8], nonfinite=policy))
        assert capsys.readouterr().out == expected.to_json() + "\n"
    assert "expected --nonfinite normalize, with which" in fail(capsys, "assess", saved, "--nonfinite", "exclude")
    assert "nonfinite among raise, exclude, normalize" in fail(capsys, "assess", *arguments, "--nonfinite", "drop")
    assert main(["assess", saved]) == 0
    assert "1 row in 1 batch holds values that are not finite" in " ".join(capsys.readouterr().out.split())


def test_a_reference(capsys: pytest.CaptureFixture[str], shards: list[str], tmp_path: Path) -> None:
    earlier = profile_array(rows(64, seed=1), batch_sizes=[4])
    (tmp_path / "earlier.profile").write_bytes(earlier.to_bytes())
    reference = ["--reference", str(tmp_path / "earlier.profile")]
    arguments = ["--batch-size", "8", "--method", "population_divergence", "--threshold", "otsu"]
    assert main(["assess", *shards, *arguments, *reference, "--json"]) == 0
    profile = profile_array(rows(50), batch_sizes=[8], reference=earlier)
    expected = make_plan(profile, method="population_divergence", threshold="otsu()")
    assert capsys.readouterr().out == expected.to_json() + "\n"
    assert main(["assess", reference[1], *reference]) == 2
    assert "--reference with shards; got the saved profile" in capsys.readouterr().err


def test_feature_axis_and_published_exact(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = rows(20, features=24).reshape(20, 2, 3, 4)
    (tmp_path / "x.npy").write_bytes(npy(x))
    arguments = ["--batch-size", "5", "--method", "published", "--published-exact", "--feature-axis", "channel"]
    assert main(["assess", str(tmp_path / "x.npy"), *arguments, "--json"]) == 0
    profile = profile_array(x, batch_sizes=[5], feature_axis="channel")
    assert capsys.readouterr().out == make_plan(profile, method="published", published_exact=True).to_json() + "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch-size", "0"], "--batch-size of at least 1; got 0: give the number"),
        (["--batch-size", "8", "--method", "magic"], "need, .*published.*; got 'magic'"),
        (["--batch-size", "8", "--null", "normal"], "--null with --method heterogeneity.*; got need"),
        (["--batch-size", "8", "--published-exact"], "--published-exact with --method published"),
        (["--batch-size", "8", "--corrected"], "--corrected with --method location_share; got need"),
        (["--method", "bartlett"], "--threshold with the measure 'bartlett'.*got none.*--threshold quantile:0.9"),
        (["--columns", "a,b"], "columns and label for tables only; got them for a npy shard"),
        (["--columns", "a,b", "--engine", "serial"], "columns and label for tables only; got them for a npy shard"),
        (["--label-column", "y"], "columns and label for tables only"),
        (["--method", "population_divergence", "--threshold", "1"], "with a reference for population_divergence"),
        (["--batch-size", "8", "--threshold", "li()"], "a threshold among: .*otsu.*; got 'li'"),
        (["--batch-size", "8", "--feature-axis", "row"], "element"),
        (["--batch-size", "8,16", "--save", "plan.json"], "a file name for each plan.*{batch_size}"),
        (["--batch-size", "8", "--save", "/nowhere/plan.json"], "No such file"),
    ],
)
def test_bad_settings(capsys: pytest.CaptureFixture[str], shards: list[str], arguments: list[str], words: str) -> None:
    assert re.search(words, fail(capsys, "assess", *shards, *arguments))


def test_bad_files_are_named(capsys: pytest.CaptureFixture[str], shards: list[str], tmp_path: Path) -> None:
    x = rows(9)
    x[4, 1] = np.nan
    bad = tmp_path / "bad.npy"
    for body, words in (
        (npy(x), "row 54, element 1 is nan"),
        (npy(rows(9))[:-1], "cut off"),
        (b"", "no bytes"),
        (npy(rows(0)), "at least one row"),
        (b"hello world", "known format"),
        (npy(np.array([[None]], dtype=object), allow_pickle=True), "pickle"),
    ):
        bad.write_bytes(body)
        line = fail(capsys, "assess", *shards, str(bad), "--batch-size", "8")
        assert f"{bad}: " in line
        assert words in line
    bad.write_bytes(npy(rows(9, features=7)))
    assert "(7,)" in fail(capsys, "assess", *shards, str(bad), "--batch-size", "8")
    assert f"{tmp_path}: expected pictures" in fail(capsys, "assess", str(tmp_path), "--batch-size", "8")
    assert "missing.npy, which is none" in fail(capsys, "assess", "missing.npy", "--batch-size", "8")


@pytest.mark.parametrize(
    "argv", [[], ["fly"], ["assess"], ["assess", "x.npy", "--batch-size", "many"], ["plan"], ["plan", "show"]]
)
def test_usage(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "usage: normgauge" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "keys", "db", "assess", "demo", "bench"])
def test_each_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"normgauge {command}" in capsys.readouterr().out.split("Example")[1]


def test_progress_bar_counts_bytes_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shards: list[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    main(["assess", *shards, "--batch-size", "8", "--json"])
    assert re.search(r"reading: 100%.*1\.\d\dk/1\.\d\dk", capsys.readouterr().err)
    main(["assess", *shards, "--batch-size", "8", "--json", "--quiet"])
    assert capsys.readouterr().err == ""


def test_assess_imports_no_web_package(shards: list[str]) -> None:
    code = (
        "import sys; from app.cli import main\n"
        f"main(['assess', {shards[0]!r}, '--batch-size', '4', '--json'])\n"
        "heavy = {'fastapi', 'starlette', 'pydantic', 'sqlalchemy', 'uvicorn', 'torch', 'httpx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("command", "module", "words"),
    [
        ("serve", "fastapi", r"serve needs fastapi.*pip install 'normgauge\[app\]'"),
        ("serve", "alembic", r"serve needs alembic.*pip install 'normgauge\[app\]'"),
        ("demo", "torch", r"demo needs torch.*pip install 'normgauge\[demo\]'"),
        ("demo", "matplotlib", r"demo needs matplotlib.*pip install 'normgauge\[demo\]'"),
    ],
)
def test_missing_package_names_the_command_that_installs_it(command: str, module: str, words: str) -> None:
    code = f"import sys; from app.cli import main; sys.modules[{module!r}] = None; sys.exit(main([{command!r}]))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(f"normgauge: {words}\n", done.stderr), done.stderr


def test_a_shard_of_another_shape_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, n_features in (("a", 3), ("b", 4)):
        np.save(tmp_path / f"{name}.npy", np.zeros((8, n_features)))
    error = fail(capsys, "assess", str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--batch-size", "4")
    assert f"{tmp_path}/b.npy: expected samples of shape (3,) as in {tmp_path}/a.npy; got (4,)" in error


def test_output_that_no_one_reads_any_more(shards: list[str]) -> None:
    command = f"{sys.executable} -m app assess {shards[0]} --batch-size 4 --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], "--port: expected less than or equal to 65535; got 99999"),
        (["--database", "sqlite://"], "--database: expected a file"),
        (["--database", "sqlite:////nowhere/x.db"], "cannot open the database.*unable to open.*--database"),
        (["--database", "mysql://x/y"], "--database: expected .*sqlite.*postgresql.*; got mysql$"),
        (["--host", "0.0.0.0"], "without API keys.*got host 0.0.0.0.*keys create.*--host 127.0.0.1.*ALLOW_ANONYMOUS"),
    ],
)
def test_serve_refuses(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *arguments]) == 1
    error = capsys.readouterr().err
    assert re.search(words, error)
    assert "Traceback" not in error


def test_serve_refuses_an_address_that_is_not_this_machines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "create", "someone"]) == 0
    assert main(["serve", "--host", "192.0.2.1"]) == 1
    assert re.search("cannot listen on 192.0.2.1 port 8000.*--host", capsys.readouterr().err)


@pytest.mark.parametrize("guard", ["nothing", "a key", "something in front", "keys to come"])
def test_serve_says_where_and_who_is_served(capsys: pytest.CaptureFixture[str], tmp_path: Path, guard: str) -> None:
    database = f"sqlite:///{tmp_path}/x.db"
    host = "127.0.0.1" if guard == "nothing" else "0.0.0.0"
    environment = {"PATH": "", "NORMGAUGE_PROT": "1", "PYTHONPATH": str(ROOT)}
    key = ""
    if guard == "a key":
        assert main(["keys", "create", "someone", "--database", database]) == 0
        key = capsys.readouterr().out.strip()
    if guard == "something in front":
        environment["NORMGAUGE_ALLOW_ANONYMOUS"] = "true"
    if guard == "keys to come":
        environment["NORMGAUGE_REQUIRE_KEYS"] = "true"
    command = [sys.executable, "-m", "app", "serve", "--host", host, "--port", "0", "--database", database]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        while (address := re.search(rf"listening on http://{re.escape(host)}:(\d+)", said)) is None:
            line = server.stderr.readline()
            assert line, said
            said += line
        url = f"http://127.0.0.1:{address[1]}"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            statuses = [
                httpx.get(f"{url}{path}", headers=sent, timeout=60).status_code
                for path, sent in (("/readyz", {}), ("/v1/assessments", {}), ("/v1/assessments", headers))
            ]
        finally:
            server.send_signal(signal.SIGINT)
        rest = server.stderr.read()
    open_to_all = guard in ("nothing", "something in front")
    assert statuses == [200, 200 if open_to_all else 401, 401 if guard == "keys to come" else 200]
    assert ("every call is refused until normgauge keys create" in said) == (guard == "keys to come")
    assert "NORMGAUGE_PROT is no setting" in said
    assert ("only this machine is served; normgauge keys create" in said) == (guard == "nothing")
    assert ("0.0.0.0 can be reached from other machines" in said) == (guard == "something in front")
    assert "Application shutdown complete" in rest
    assert "Traceback" not in rest
    assert "ng_" not in said + rest


def test_bench_lists_and_runs_what_a_checkout_has(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name, text in (
        ("__init__", ""),
        ("one_speed", "print('one ran')"),
        ("two_cost", "raise SystemExit(3)"),
        ("long", "print('long ran')"),
        ("support/__init__", ""),
        ("study/__init__", ""),
        ("study/__main__", ""),
    ):
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "app", "bench"]
    for arguments, status, out in (
        (["--list"], 0, "long\none_speed\nstudy\ntwo_cost\n"),
        (["long"], 0, "== long\nlong ran\n"),
        ([], 3, "== one_speed\none ran\n== two_cost\n"),
        (["three"], 1, ""),
    ):
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": "", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        )
        assert (done.returncode, done.stdout) == (status, out), done.stderr


def test_parser_is_built_without_the_subcommands() -> None:
    arguments = build_parser().parse_args(["demo", "--quick", "--seeds", "2", "--report", "x.html"])
    assert (arguments.quick, arguments.seeds, arguments.report) == (True, 2, "x.html")
