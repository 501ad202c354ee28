"""Settings come from the environment, have their limits, and are all documented."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.cli import main
from app.settings import Settings, unknown_variables
from app.settings_table import describe, to_json, to_text
from assessor.kernels import choice, usable_processors

ROOT = Path(__file__).parents[2]


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMGAUGE_PORT", "9001")
    monkeypatch.setenv("NORMGAUGE_MAX_BODY_BYTES", "1000")
    settings = Settings()
    assert (settings.port, settings.max_body_bytes) == (9001, 1000)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("port", 65536, "less than or equal to 65535"),
        ("max_rows", 0, "greater than or equal to 1"),
        ("database_url", "sqlite://", "expected a file"),
        ("database_url", "sqlite:///:memory:", "expected a file"),
        ("database_url", "sqlite:///x?mode=memory", "expected a file"),
        ("database_url", "/data/x.db", "expected an SQLAlchemy URL"),
    ],
)
def test_bad_values(field: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(**{field: value})  # type: ignore[arg-type]  # the point of the test


def test_unknown_variables_are_found() -> None:
    assert unknown_variables({"NORMGAUGE_MAX_ROW": "1", "NORMGAUGE_MAX_ROWS": "1"}) == ["NORMGAUGE_MAX_ROW"]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_documented(name: str) -> None:
    assert Settings.model_fields[name].description
    assert f"`NORMGAUGE_{name.upper()}`" in (ROOT / "docs" / "operations.md").read_text()


def test_secret_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://normgauge:pass word@db/normgauge\n")
    monkeypatch.setenv("NORMGAUGE_DATABASE_URL_FILE", str(path))
    assert Settings().database_url == "postgresql://normgauge:pass word@db/normgauge"
    assert Settings(database_url="sqlite:///x.db").database_url == "sqlite:///x.db"


def test_secret_from_a_file_and_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NORMGAUGE_DATABASE_URL_FILE", str(tmp_path))
    monkeypatch.setenv("NORMGAUGE_DATABASE_URL", "sqlite:///x.db")
    with pytest.raises(ValueError, match="NORMGAUGE_DATABASE_URL or NORMGAUGE_DATABASE_URL_FILE; got both"):
        Settings()


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"\xff", "not UTF-8")])
def test_unreadable_file_of_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("NORMGAUGE_DATABASE_URL_FILE", str(path))
    with pytest.raises(ValueError, match=rf"cannot read {path}.*{words}.*check that it exists"):
        Settings()


def test_only_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "port").write_text("9001")
    variables = {"NORMGAUGE_PORT_FILE": str(tmp_path / "port"), "NORMGAUGE_DATABASE_URL_FILE": "x"}
    monkeypatch.setenv("NORMGAUGE_PORT_FILE", variables["NORMGAUGE_PORT_FILE"])
    assert Settings().port == 8000
    assert unknown_variables(variables) == ["NORMGAUGE_PORT_FILE"]


def test_table_has_each_setting_with_its_source_and_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://normgauge:hidden@db/normgauge?sslmode=require&sslpassword=hidden")
    environ = {"NORMGAUGE_DATABASE_URL_FILE": str(path), "NORMGAUGE_MAX_ROWS": "1000"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    rows = describe(Settings(port=9000), environ=environ, options=["port"])
    by_name = {row.variable: row for row in rows}
    kernel = ["NORMGAUGE_KERNEL", "NORMGAUGE_THREADS"]
    assert list(by_name) == [*(f"NORMGAUGE_{name.upper()}" for name in Settings.model_fields), *kernel]
    assert by_name["NORMGAUGE_KERNEL"][1:4] == (choice().name, "auto", "default")
    assert by_name["NORMGAUGE_THREADS"][1:4] == (choice().threads, usable_processors(), "default")
    assert by_name["NORMGAUGE_PORT"][1:4] == (9000, 8000, "option")
    assert by_name["NORMGAUGE_MAX_ROWS"][1:4] == (1000, 50_000_000, "NORMGAUGE_MAX_ROWS")
    assert by_name["NORMGAUGE_LOG_LEVEL"][1:4] == ("info", "info", "default")
    url = by_name["NORMGAUGE_DATABASE_URL"]
    assert url.value == "postgresql://normgauge:***@db/normgauge?sslmode=require&sslpassword=..."
    assert url.source == "NORMGAUGE_DATABASE_URL_FILE"
    assert "hidden" not in to_json(rows) + to_text(rows)
    assert json.loads(to_json(rows)) == [row._asdict() for row in rows]
    lines = to_text(rows).splitlines()
    column = lines[0].index("source")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)


def test_serve_prints_settings_and_does_not_serve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMGAUGE_LOG_FORMAT", "json")
    assert main(["serve", "--port", "9001", "--print-settings", "--json"]) == 0
    shown = {row["variable"]: row for row in json.loads(capsys.readouterr().out)}
    assert (shown["NORMGAUGE_PORT"]["value"], shown["NORMGAUGE_PORT"]["source"]) == (9001, "option")
    assert shown["NORMGAUGE_LOG_FORMAT"]["source"] == "NORMGAUGE_LOG_FORMAT"
    assert main(["serve", "--print-settings"]) == 0
    assert capsys.readouterr().out.startswith("variable")


def test_json_without_print_settings_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--json"]) == 2
    assert "--json goes with --print-settings" in capsys.readouterr().err


def test_a_wrong_secret_is_not_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMGAUGE_DATABASE_URL", "mysql://normgauge:hidden@db/normgauge")
    assert main(["serve", "--print-settings"]) == 1
    error = capsys.readouterr().err
    assert "NORMGAUGE_DATABASE_URL: expected" in error
    assert "hidden" not in error


def test_a_wrong_kernel_stops_the_service_before_it_opens_anything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NORMGAUGE_KERNEL", "cuda")
    monkeypatch.chdir(tmp_path)
    choice.cache_clear()
    try:
        assert main(["serve"]) == 1
    finally:
        monkeypatch.undo()
        choice.cache_clear()
    assert "expected NORMGAUGE_KERNEL among auto, compiled, numpy; got 'cuda'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_variables_of_the_other_parts_are_no_typing_errors() -> None:
    names = ("NORMGAUGE_KERNEL", "NORMGAUGE_THREADS", "NORMGAUGE_CACHE_DIR", "NORMGAUGE_NORM_KERNEL")
    assert unknown_variables(dict.fromkeys((*names, "NORMGAUGE_STUDY_DATA"), "x")) == []


FLOATS = [name for name, field in Settings.model_fields.items() if field.annotation is float]


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_times_are_finite(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=f"{name}\n.*finite number"):
        Settings.model_validate({name: value})


def test_some_settings_are_times() -> None:
    assert {"shutdown_timeout_s", "shutdown_delay_s", "job_poll_s", "body_idle_timeout_s"} <= set(FLOATS)
