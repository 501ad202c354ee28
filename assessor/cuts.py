"""Where the pieces of a shard best end: with a batch, so that no row waits for the next piece, in a copy."""

from assessor.formats.decoder import Decoder, TensorReader
from assessor.formats.npy import NpyDecoder
from assessor.formats.safetensors import SafetensorsDecoder
from assessor.profiler import Profiler

Cuts = tuple[int, int]
"""After how many bytes, and then after each how many."""
ANYWHERE: Cuts = (0, 1)


def samples_of(decoder: Decoder) -> TensorReader | None:
    """Return the reader of a decoder's samples, where a header says how many there are, and theirs comes."""
    return decoder.samples if isinstance(decoder, NpyDecoder | SafetensorsDecoder) else None


def best_cuts(decoder: Decoder, profiler: Profiler) -> Cuts | None:
    """Return the cuts of what a decoder is fed next; None where its bytes do not tell, or not yet."""
    samples = samples_of(decoder)
    if samples is None or not samples.row_bytes:
        return None
    rows, stride = profiler.best_cuts(samples.row_bytes)
    return rows * samples.row_bytes - samples.unfinished_bytes, stride * samples.row_bytes


def piece_bytes(cuts: Cuts | None, most: int) -> int:
    """Return the size of the next piece: the most that ends with a cut; all that may be where cuts are farther apart.

    Args:
        cuts: counted from where the piece begins; the first may lie before that. None for anywhere.
        most: bytes of a piece, >= 1.

    >>> piece_bytes((10, 32), 100), piece_bytes((0, 32), 100), piece_bytes((10, 200), 100)
    (74, 96, 100)
    """
    first, stride = cuts or ANYWHERE
    return most - (most - first) % stride if stride <= most else most
