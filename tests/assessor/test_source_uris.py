"""Addresses and patterns: what they mean, and which are refused."""

import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor import errors
from assessor.sources import SourceUri, base_of, matches

SEGMENT = st.text("abcXYZ019 ._-+~üß&=", min_size=1, max_size=6).filter(lambda s: s not in (".", ".."))
KEY = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)


@given(st.sampled_from(["s3", "file"]), KEY)
def test_an_address_is_read_as_it_is_written(scheme: str, key: str) -> None:
    uri = SourceUri(scheme, "data" if scheme == "s3" else "", key)
    assert SourceUri.parse(str(uri)) == uri


@given(KEY, KEY, st.sampled_from(["s3://data/", "file:///"]))
def test_under_a_prefix_is_what_pathlib_says(key: str, prefix: str, start: str) -> None:
    expected = PurePosixPath("/", key).is_relative_to(PurePosixPath("/", prefix))
    scheme, container = ("s3", "data") if start.startswith("s3") else ("file", "")
    assert SourceUri(scheme, container, key).is_under(SourceUri(scheme, container, prefix)) == expected
    assert SourceUri(scheme, container, f"{prefix}/{key}").is_under(SourceUri(scheme, container, prefix))
    assert not SourceUri("s3", "other", key).is_under(SourceUri("s3", "data", ""))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data/x.npy", "begins with s3:// or file://"),
        ("https://example.org/x.npy", "begins with s3:// or file://"),
        ("gs://data/x.npy", "begins with s3:// or file://"),
        ("s3://", "name of a bucket"),
        ("s3://127.0.0.1/x", "name of a bucket"),
        ("s3://169.254.169.254/latest/meta-data", "name of a bucket"),
        ("s3://user:password@data/x", "name of a bucket"),
        ("s3://data:9000/x", "name of a bucket"),
        ("s3://a..b/x", "name of a bucket"),
        ("s3://DATA/x", "name of a bucket"),
        ("s3://data/a/../b", "without empty parts"),
        ("s3://data/./b", "without empty parts"),
        ("s3://data/a//b", "without empty parts"),
        ("s3://data//b", "without empty parts"),
        ("s3://data/%2e%2e/b", "encoded dots"),
        ("s3://data/a%2Fb", "encoded dots"),
        ("file:///data/%252E%252e/b", "encoded dots"),
        ("file:///data/a%00", "encoded dots"),
        ("file:///data/a%5cb", "encoded dots"),
        ("file:///data/a%0ab", "printable"),
        ("s3://data/a\nb", "printable"),
        ("file:///data/a\\b", "printable"),
        ("file://host/data/x", "the host 'host'"),
        ("file:data/x", "begins with s3:// or file://"),
        ("s3://data/" + "x" * 2048, "at most 2048 characters"),
    ],
)
def test_addresses_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(errors.SourceUriError, match=re.escape(words)):
        SourceUri.parse(text)


@given(st.lists(st.sampled_from(["a", "b", "ab", "part-7.npy"]), min_size=1, max_size=4), st.data())
def test_a_pattern_within_parts_is_what_fnmatch_says(segments: list[str], data: st.DataObject) -> None:
    patterns = [data.draw(st.sampled_from([s, "*", "?", "[ab]*", "part-?.npy", "[!a]"])) for s in segments]
    expected = all(fnmatchcase(s, p) for s, p in zip(segments, patterns, strict=True))
    assert matches("/".join(segments), "/".join(patterns)) == expected
    assert not matches("/".join([*segments, "more"]), "/".join(patterns))


@given(KEY, KEY)
def test_two_stars_stand_for_any_parts(start: str, end: str) -> None:
    for between in ("", "x/", "x/y/z/"):
        assert matches(f"{start}/{between}{end}", f"{start}/**/{end}")
    assert matches(f"{start}/{end}", "**")
    assert not matches(f"{start}x/{end}", f"{start}/**")


def test_patterns_take_no_exponential_time() -> None:
    assert not matches("a" * 500, "a*" * 40 + "b")
    assert not matches("/".join("a" * 60), "/".join(["**", "a"] * 30) + "/b")


@pytest.mark.parametrize(
    ("pattern", "base"),
    [
        ("s3://data/*", "s3://data/"),
        ("s3://data/a/b/x-?.npy", "s3://data/a/b"),
        ("s3://data/a/[ab]/b/x.npy", "s3://data/a"),
        ("file:///a/**/x.npy", "file:///a"),
    ],
)
def test_base_of_a_pattern(pattern: str, base: str) -> None:
    assert str(base_of(SourceUri.parse(pattern))) == base
