"""What `normgauge serve --print-settings` shows: every setting with its value, default, source and meaning."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sqlalchemy.engine import make_url

from app.secret_files import SUFFIX, is_secret
from app.settings import PREFIX, Settings
from assessor.kernels import KERNELS, choice, usable_processors

MASK = "***"
_QUERY_MASK = "..."  # stars would be percent-encoded


class Row(NamedTuple):
    """One setting as it is shown; `source` is a variable's name, "option" or "default"."""

    variable: str
    value: Any
    default: Any
    source: str
    description: str


def describe(settings: Settings, *, environ: Mapping[str, str], options: Collection[str] = ()) -> list[Row]:
    """Return a row for each setting, in the order in which they are declared; secrets are masked.

    Args:
        settings: the settings in force.
        environ: the environment that they were read from.
        options: names of the fields that came from the command line.
    """
    variables = {name.upper() for name in environ}
    return [*_rows(settings, variables, options), *_kernel_rows(variables)]


def to_json(rows: list[Row]) -> str:
    """Return the rows as a JSON array of objects."""
    return json.dumps([row._asdict() for row in rows], indent=2)


def to_text(rows: list[Row]) -> str:
    """Return the rows as an aligned table."""
    head = ("variable", "value", "default", "source", "meaning")
    cells = [head, *((row.variable, *map(_shown, row[1:3]), row.source, row.description) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]) for line in cells
    )


def _rows(settings: Settings, variables: Collection[str], options: Collection[str]) -> Iterator[Row]:
    for name, field in Settings.model_fields.items():
        variable = f"{PREFIX}{name}".upper()
        if name in options:
            source = "option"
        else:
            source = next((given for given in (variable, variable + SUFFIX) if given in variables), "default")
        default = field.get_default(call_default_factory=True)
        yield Row(
            variable,
            _plain(field, getattr(settings, name)),
            None if default is PydanticUndefined else _plain(field, default),
            source,
            field.description or "",
        )


def _kernel_rows(variables: Collection[str]) -> Iterator[Row]:
    """Yield the assessor's settings that concern a service too; they have no field in `Settings`."""
    chosen = choice()
    known = (
        ("NORMGAUGE_KERNEL", chosen.name, "auto", f"Which kernel profiles: {', '.join(KERNELS)}."),
        ("NORMGAUGE_THREADS", chosen.threads, usable_processors(), "Threads of the compiled kernel."),
    )
    for name, value, default, description in known:
        yield Row(name, value, default, name if name in variables else "default", description)


def _plain(field: FieldInfo, value: Any) -> Any:
    """Return a value as JSON can hold it, without what is secret in it."""
    if is_secret(field) and value:
        return _masked(str(value))
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _masked(value: str) -> str:
    # Of an address, all but the password helps whoever looks for a mistake.
    if "://" not in value:
        return MASK
    url = make_url(value)
    query = {name: _QUERY_MASK if "password" in name else given for name, given in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def _shown(value: Any) -> str:
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
