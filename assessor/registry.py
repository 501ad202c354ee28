"""A name -> entry table: a duplicate raises, an unknown name lists the known ones."""

from collections.abc import Callable
from typing import Generic, TypeVar

from assessor.errors import SettingError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Entries of one kind by name.

    >>> colours = Registry[int]("colour")
    >>> colours.register("red")(1)
    1
    >>> colours.get("red"), colours.names()
    (1, ('red',))
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters its argument under `name`.

        Raises:
            SettingError: the name is taken.
        """

        def enter(entry: T) -> T:
            if name in self._entries:
                raise SettingError(f"{self._kind} {name!r} is registered already; choose a new name")
            self._entries[name] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """Return the entry called `name`.

        Raises:
            UnknownNameError: no such entry; the message lists the known ones.
        """
        if not isinstance(name, str) or name not in self._entries:
            article = "an" if self._kind[0] in "aeiou" else "a"
            raise UnknownNameError(f"expected {article} {self._kind} among: {', '.join(self.names())}; got {name!r}")
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return the registered names in order of registration."""
        return tuple(self._entries)
