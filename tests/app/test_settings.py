"""Settings come from the environment, have their limits, and are all documented."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, unknown_variables

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
