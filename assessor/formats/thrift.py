"""Just enough of Thrift's compact protocol to read the sizes in a Parquet file before anything is done with it.

Source: Apache Thrift, "Thrift Compact protocol encoding"; Apache Parquet, parquet.thrift.
"""

from dataclasses import dataclass, field

from assessor.errors import FormatError

MAX_DEPTH = 32
KEPT_DEPTH = 3
"""The metadata of a column chunk: file, row group, chunk, its metadata."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


@dataclass
class CompactReader:
    """Walks over structs in the compact protocol.

    Attributes:
        data: the bytes.
        at: where the next value begins.
        structs: how many structs have been walked over.
        max_structs: most of them.
    """

    data: bytes
    at: int = 0
    max_structs: int = 1 << 18
    structs: int = field(default=0, init=False)

    def struct(self, depth: int = 0) -> dict[int, object]:
        """Return the integers, structs and lists of structs of a struct, by field number; all else is walked over.

        Deeper than KEPT_DEPTH all is walked over: what is needed of a Parquet file lies above.

        Raises:
            FormatError: it is none, is cut off, or holds too many others.
        """
        self.structs += 1
        if self.structs > self.max_structs or depth > MAX_DEPTH:
            raise FormatError(
                f"expected Parquet metadata of at most {self.max_structs} entries, {MAX_DEPTH} deep: "
                "write fewer row groups, or put the features into one list column"
            )
        fields: dict[int, object] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            value = self._value(head & 15, depth)
            if value is not None and depth <= KEPT_DEPTH:
                fields[number] = value
        return fields

    def _value(self, kind: int, depth: int) -> object:
        if kind in (_TRUE, _FALSE):
            return None
        if kind in (_I16, _I32, _I64):
            return self._integer()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind in (_BYTE, _DOUBLE):
            self._skip(1 if kind == _BYTE else 8)
        elif kind == _BINARY:
            self._skip(self._varint())
        else:
            raise FormatError(f"expected Parquet metadata; byte {self.at} has field type {kind}, which it never has")
        return None

    def _list(self, depth: int) -> object:
        head = self._byte()
        kind, count = head & 15, head >> 4
        count = self._varint() if count == 15 else count
        if count > len(self.data) - self.at:
            raise FormatError(f"expected {count} entries of Parquet metadata; it is too short for them")
        if kind == _STRUCT:
            return [self.struct(depth + 1) for _ in range(count)]
        for _ in range(count):
            if kind in (_TRUE, _FALSE):
                self._skip(1)
            else:
                self._value(kind, depth)
        return None

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise FormatError("expected complete Parquet metadata; it is cut off: write the file again")

    def _byte(self) -> int:
        self._skip(1)
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise FormatError(f"expected integers of at most 64 bits in Parquet metadata; byte {self.at} goes on")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
