"""Shard formats: one decoder interface, one file a format."""

from assessor.formats import npy, safetensors  # noqa: F401 - they register themselves
from assessor.formats.decoder import MEDIA_TYPES, Decoder, Part, decoder_for, formats

__all__ = ["MEDIA_TYPES", "Decoder", "Part", "decoder_for", "formats"]
