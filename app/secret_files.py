"""Secrets from files: NORMGAUGE_<NAME>_FILE names a file that holds the value of the secret setting NAME.

A secret in the environment can be read by whoever may look at the process; one in a file, as container engines mount
them, only by whoever may read the file. A setting is a secret where its field says `json_schema_extra=SECRET`.
"""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

SECRET: dict[str, Any] = {"secret": True}
"""Marks a field whose value is not shown and may come from a file."""

SUFFIX = "_FILE"


def is_secret(field: FieldInfo) -> bool:
    """Return whether a settings field holds a secret."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("secret"))


class SecretFileSource(EnvSettingsSource):
    """A source of pydantic-settings that reads the files; the last line end of each is left out.

    Raises:
        ValueError: the setting and its file are both given, or the file cannot be read; the value is not in the text.
    """

    def __init__(self, settings_class: type[BaseSettings]) -> None:
        super().__init__(settings_class)

    def __call__(self) -> dict[str, Any]:
        """Return the values that came from files, by field name."""
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            path = self._variable(name, SUFFIX)
            if path is None or not is_secret(field):
                continue
            variable = f"{self.env_prefix}{name}".upper()
            if self._variable(name) is not None:
                raise ValueError(f"expected {variable} or {variable}{SUFFIX}; got both; leave one out")
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise ValueError(
                    f"cannot read {path}, which {variable}{SUFFIX} names: {reason}; "
                    "check that it exists and that the service's user may read it"
                ) from None
            found[name] = text.removesuffix("\n").removesuffix("\r")
        return found

    def _variable(self, name: str, suffix: str = "") -> str | None:
        # pydantic-settings has the environment's names in lower case.
        return self.env_vars.get(f"{self.env_prefix}{name}{suffix}".lower())
