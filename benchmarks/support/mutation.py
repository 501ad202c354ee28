"""Mutated shards: each a pure function of the format, a seed and a number, so that any can be made again."""

from random import Random

from benchmarks.support.fuzz_seeds import seeds, tar, zipped

BODIES = seeds()
INTEGERS = [
    value.to_bytes(width, "little", signed=True)
    for width in (1, 2, 4, 8)
    for power in (width * 8 - 1, width * 4, 4)
    for value in (-1, 0, 1, 2**power - 1, -(2**power), 2 ** (power - 1))
    if -(2 ** (width * 8 - 1)) <= value < 2 ** (width * 8 - 1)
]
JUNK = b"0123456789{}[](),:'\"L<>|fiuO \n\\\xff\x00-.eE"
"""Characters of headers and of text."""


def mutated(name: str, seed: int, number: int) -> bytes:
    """Return one mutated shard of a format."""
    random = Random(f"{name} {seed} {number}")
    bodies = BODIES[name]
    if name == "npz" and random.random() < 0.4:
        # Within the zip file, whose checksums would stop most of the mutations outside.
        members = {"x.npy": _mutate(BODIES["npy"], random), "y.npy": _mutate(BODIES["npy"], random)}
        return zipped(members if random.random() < 0.5 else {"x.npy": members["x.npy"]})
    if name == "webdataset" and random.random() < 0.5:
        kind = random.choice(["png", "jpg", "bmp", "tiff", "webp", "ppm", "npy", "cls"])
        body = _mutate(_members(kind), random)
        return tar({"a.npy": BODIES["npy"][0], "a.cls": body} if kind == "cls" else {f"a.{kind}": body})
    return _mutate(bodies, random)


def _members(kind: str) -> list[bytes]:
    """Return the members of the good shards that are of a kind."""
    if kind == "npy":
        return BODIES["npy"]
    if kind == "cls":
        return [b"0", b"12"]
    names = {"png": 0, "jpg": 1, "bmp": 2, "tiff": 3, "webp": 4, "ppm": 5}
    body = BODIES["webdataset"][names[kind]]
    size = int(body[1024 + 124 : 1024 + 135], 8)
    return [body[1536 : 1536 + size]]


def _mutate(bodies: list[bytes], random: Random) -> bytes:
    body = bytearray(random.choice(bodies))
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        if not body:
            break
        at = random.randrange(len(body))
        kind = random.randrange(9)
        if kind <= 1:
            body[at] = random.randrange(256)
        elif kind == 2:
            body[at] ^= 1 << random.randrange(8)
        elif kind == 3:
            number = random.choice(INTEGERS)
            at -= at % len(number)
            body[at : at + len(number)] = number
        elif kind == 4:
            del body[at : at + random.randrange(1, 65)]
        elif kind == 5:
            body[at:at] = bytes(random.choices(JUNK, k=random.randrange(1, 9)))
        elif kind == 6:
            other = random.choice(bodies)
            start, size = random.randrange(len(other)), random.randrange(1, 65)
            body[at : at + size] = other[start : start + size]
        elif kind == 7:
            size = random.randrange(1, 513)
            body[at:at] = body[at : at + size] * random.randrange(1, 4)
        else:
            del body[at:]
    return bytes(body)
