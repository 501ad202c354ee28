"""Plans as Arrow tables."""

import json
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from assessor import SettingError, assess

pyarrow = pytest.importorskip("pyarrow")


def test_columns_and_metadata() -> None:
    x = np.random.default_rng(1).normal(size=(41, 5))
    plan = assess(x, batch_size=8)
    table = plan.to_arrow()
    assert table.column_names == list(plan.to_columns())
    for name, column in plan.to_columns().items():
        assert_array_equal(table[name].to_numpy(), column)
    assert table["score"].null_count == 0
    assert np.isnan(table["score"][5].as_py())
    body = json.loads(plan.to_json())
    told = json.loads(table.schema.metadata[b"normgauge"])
    assert told == {k: v for k, v in body.items() if k not in ("cutoffs", "scores", "normalize", "details")}


def test_it_survives_a_file() -> None:
    plan = assess(np.random.default_rng(1).normal(size=(40, 5)), batch_size=8)
    assert plan.to_frame().equals(plan.to_arrow(), check_metadata=True)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, plan.to_arrow().schema) as writer:
        writer.write_table(plan.to_arrow())
    assert pyarrow.ipc.open_file(sink.getvalue()).read_all().equals(plan.to_arrow(), check_metadata=True)


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingError, match=r"expected pyarrow for to_arrow; run: pip install 'normgauge\[formats\]'"):
        assess(np.eye(8), batch_size=4).to_arrow()
