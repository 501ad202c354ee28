"""Mappings that cannot be changed, and can be pickled, copied and written as JSON as dicts can."""

from collections.abc import Mapping
from typing import Any, NoReturn


class FrozenDict(dict[str, Any]):
    """A dict without its methods that change it; lists within it are tuples.

    `types.MappingProxyType` will not do: it can be neither pickled, as plans are for loader workers, nor copied.

    >>> frozen = FrozenDict({"a": [1, 2]})
    >>> frozen["a"], dict(frozen) == {"a": (1, 2)}
    ((1, 2), True)
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__({name: _freeze(value) for name, value in values.items()})

    def __reduce__(self) -> tuple[type["FrozenDict"], tuple[dict[str, Any]]]:
        """Return how to make it again: item by item, as for other dicts, it would refuse."""
        return FrozenDict, (dict(self),)

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("this mapping belongs to a plan and cannot be changed; make a dict(...) of it first")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


def _freeze(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return FrozenDict(value) if isinstance(value, dict) else value
