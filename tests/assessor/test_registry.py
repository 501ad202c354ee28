import pytest

from assessor import SettingError, UnknownNameError, formats, measures, methods, thresholds
from assessor.registry import Registry


def test_entries_by_name_in_order() -> None:
    letters = Registry[int]("letter")
    letters.register("b")(2)
    letters.register("a")(1)
    assert letters.names() == ("b", "a")
    assert letters.get("a") == 1


def test_a_taken_name_raises() -> None:
    letters = Registry[int]("letter")
    letters.register("a")(1)
    with pytest.raises(SettingError, match="letter 'a' is registered already; choose a new name"):
        letters.register("a")(2)
    assert letters.get("a") == 1


@pytest.mark.parametrize(
    ("registry", "kind"), [(methods, "method"), (measures, "measure"), (thresholds, "threshold"), (formats, "format")]
)
@pytest.mark.parametrize("name", ["Need", "", None, ["need"], 3])
def test_an_unknown_name_lists_the_known_ones(registry: Registry[object], kind: str, name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.get(name)
    assert str(caught.value) == f"expected a {kind} among: {', '.join(registry.names())}; got {name!r}"
