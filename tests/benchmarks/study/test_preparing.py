import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from benchmarks.study.preparing import prepare
from benchmarks.study.records import Data


def sources() -> Data:
    generator = torch.Generator().manual_seed(0)
    source = torch.arange(60) % 2
    x = torch.randn(60, 2, 3, generator=generator) * (1 + 9 * source[:, None, None]) + 5
    x[:, 0, 0] = 7.0
    y = torch.arange(60) % 3
    parts = tuple((x[source == s][:10] + 1, y[source == s][:10]) for s in (0, 1))
    return Data(x, y, parts, parts, 3, source)


def test_standardizing_is_scikit_learns_on_every_part() -> None:
    data = sources()
    scaler = StandardScaler().fit(data.x.flatten(1).double())
    ready = prepare(data, "standardize")
    for before, after in [(data.x, ready.x), (data.test[1][0], ready.test[1][0])]:
        expected = scaler.transform(before.flatten(1).double()).reshape(before.shape)
        np.testing.assert_allclose(after, expected, atol=1e-5)
    assert ready.validation[0][1] is data.validation[0][1]


def test_scaling_is_one_shift_and_scale_for_all_values() -> None:
    data = sources()
    wide = data.x.double().numpy()
    np.testing.assert_allclose(prepare(data, "scale").x, (wide - wide.mean()) / wide.std(), rtol=1e-5, atol=1e-6)


def test_each_source_is_standardized_by_its_own_samples_in_evaluation_too() -> None:
    data = sources()
    ready = prepare(data, "per_source")
    for s in (0, 1):
        scaler = StandardScaler().fit(data.x[data.source == s].flatten(1).double())
        test = data.test[s][0]
        np.testing.assert_allclose(ready.x[data.source == s].flatten(1).std(0, correction=0)[1:], 1, rtol=1e-5)
        expected = scaler.transform(test.flatten(1).double()).reshape(test.shape)
        np.testing.assert_allclose(ready.test[s][0], expected, atol=1e-5)


def test_nothing_is_nothing_and_another_word_is_refused() -> None:
    data = sources()
    assert prepare(data, "nothing") is data
    with pytest.raises(ValueError, match="nothing, scale, standardize, per_source; got 'whiten'"):
        prepare(data, "whiten")


def test_sources_without_parts_of_their_own_are_refused() -> None:
    data = sources()
    one = Data(data.x, data.y, data.validation[:1], data.test, 3, data.source)
    with pytest.raises(ValueError, match=r"sources \[0, 1\], one each; got 1 and 2"):
        prepare(one, "per_source")
