"""pyarrow, imported here only, and only when an Arrow or Parquet shard comes."""

from typing import Any

from assessor.errors import SettingError


def load_pyarrow() -> Any:
    """Return pyarrow, with `ipc` and `parquet`.

    Raises:
        SettingError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise SettingError(
            f"expected pyarrow, which reads Arrow and Parquet; it cannot be imported ({error}): "
            "pip install 'normgauge[formats]'"
        ) from error
    return pyarrow


def data_errors(pyarrow: Any) -> tuple[type[Exception], ...]:
    """Return what pyarrow raises for bad data; not ArrowMemoryError, which is no fault of the data."""
    return (
        pyarrow.ArrowInvalid,
        pyarrow.ArrowNotImplementedError,
        pyarrow.ArrowTypeError,
        pyarrow.ArrowKeyError,
        pyarrow.ArrowIndexError,
        pyarrow.ArrowCapacityError,
        pyarrow.ArrowSerializationError,
        OSError,
        OverflowError,
        UnicodeDecodeError,
    )
