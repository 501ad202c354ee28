"""A profile's bytes: the library's own layout, written in pieces that are no copies."""

import json

import numpy as np
import pytest
import safetensors.numpy

from assessor import FormatError, Profile, merge, profile_array
from assessor.profile_file import ProfileFile

RNG = np.random.default_rng(8)


def made() -> dict[str, Profile]:
    """Return profiles of all kinds."""
    x = RNG.normal(3, 2, size=(90, 3, 4))
    x[:30, 1] = 7.0
    parts = [profile_array(x[a:b], batch_sizes=[1, 7], first_row=a) for a, b in ((5, 20), (31, 90))]
    reference = profile_array(x[:50], batch_sizes=[4])
    missing = np.where(x > 8, np.nan, x)
    return {
        "none": Profile.empty(),
        "one row": profile_array(x[:1], batch_sizes=[4], first_row=3),
        "gaps": merge(parts),
        "channels, labels": profile_array(x, batch_sizes=[4], feature_axis="channel", labels=np.arange(90) % 3),
        "reference": profile_array(x[40:], batch_sizes=[8], reference=reference),
        "left out": profile_array(missing, batch_sizes=[4], nonfinite="exclude"),
        "no sample": profile_array(x[:, :, 0], batch_sizes=[4], calibration_rows=0),
        "constant": profile_array(np.ones((9, 2)), batch_sizes=[2, 4]),
    }


def metadata_of(data: bytes) -> dict[str, str]:
    """Return a file's metadata."""
    return dict(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"])


@pytest.mark.parametrize("kind", made())
def test_laid_out_as_the_library_does(kind: str) -> None:
    profile = made()[kind]
    whole = profile.to_bytes()
    assert safetensors.numpy.save(safetensors.numpy.load(whole), metadata_of(whole)) == whole
    assert Profile.from_bytes(whole).to_bytes() == whole


@pytest.mark.parametrize("kind", made())
def test_its_pieces_are_its_bytes(kind: str) -> None:
    profile = made()[kind]
    file = ProfileFile(profile)
    assert b"".join(file) == b"".join(file) == profile.to_bytes()
    assert len(file) == len(profile.to_bytes())


def test_what_is_large_is_not_copied() -> None:
    profile = profile_array(RNG.normal(size=(600, 40)), batch_sizes=[30])
    pieces = [np.frombuffer(piece, np.uint8) for piece in ProfileFile(profile)]
    for column in (profile.rows.means, profile.calibration.values, profile.calibration.rows):
        assert sum(np.shares_memory(piece, column) for piece in pieces) == 1


def test_arrays_of_other_types_are_refused() -> None:
    whole = profile_array(RNG.normal(size=(30, 3)), batch_sizes=[4]).to_bytes()
    tensors = safetensors.numpy.load(whole)
    tensors["rows.means"] = tensors["rows.means"].astype(np.float32)
    with pytest.raises(FormatError, match=r"rows\.means of dtype float32"):
        Profile.from_bytes(safetensors.numpy.save(tensors, metadata_of(whole)))
