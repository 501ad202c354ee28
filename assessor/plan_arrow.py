"""Plans as Arrow tables."""

import json
from typing import TYPE_CHECKING

from assessor.errors import SettingError
from assessor.plan import Plan

if TYPE_CHECKING:
    import pyarrow

COLUMNS = ("cutoffs", "scores", "normalize", "details")
"""What of the JSON form the table's columns hold."""


def arrow_table(plan: Plan) -> "pyarrow.Table":
    """Return the plan's columns as a table; metadata "normgauge" of its schema is the rest of the plan, as JSON.

    Raises:
        SettingError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise SettingError("expected pyarrow for to_arrow; run: pip install 'normgauge[formats]'") from error
    body = json.loads(plan.to_json())
    rest = {name: value for name, value in body.items() if name not in COLUMNS}
    return pyarrow.table(plan.to_columns(), metadata={"normgauge": json.dumps(rest, separators=(",", ":"))})
