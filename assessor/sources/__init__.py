"""Shards where they lie: objects in S3-compatible stores and files in folders, through obstore.

A `SourceUri` says where; `open_store` gives the `Store` that holds it; a `Source` is an object as it was found, with
size and etag, so that one that is written meanwhile shows. Needs the extra `stores`, which is imported when a store is
opened.
"""

from assessor.sources.globs import base_of, is_pattern, matches
from assessor.sources.ranged import read_range
from assessor.sources.settings import StoreSettings, host_of
from assessor.sources.stores import Bucket, Folder, Source, Store, find_pattern, open_store
from assessor.sources.uris import SourceUri

__all__ = [
    "Bucket",
    "Folder",
    "Source",
    "SourceUri",
    "Store",
    "StoreSettings",
    "base_of",
    "find_pattern",
    "host_of",
    "is_pattern",
    "matches",
    "open_store",
    "read_range",
]
