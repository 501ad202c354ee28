"""Shard formats: one decoder interface, one file a format."""

from assessor.formats import npy, safetensors, npz, arrow, parquet, comma, json_rows, webdataset  # noqa: F401, I001 - they register themselves, in this order
from assessor.formats.decoder import Decoder, Part, formats
from assessor.formats.recognize import MEDIA_TYPES, RECOGNIZED_BYTES, decoder_for, format_of
from assessor.formats.settings import DecodeSettings

__all__ = [
    "MEDIA_TYPES",
    "RECOGNIZED_BYTES",
    "DecodeSettings",
    "Decoder",
    "Part",
    "decoder_for",
    "format_of",
    "formats",
]
