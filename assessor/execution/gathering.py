"""What the workers send, put together: profiles merged as they come, failures raised or noted."""

from collections.abc import Sequence

from assessor.errors import LabelError, ShapeError
from assessor.execution.merging import MergeTree, SampleBar, unread_rows
from assessor.execution.outcome import Skipped
from assessor.execution.work import Failure, Kind, Part, Placed
from assessor.profile import Profile


class Gathering:
    """Merges the profiles of a dataset's blocks, whatever the order in which they come.

    All sources must be of one kind: one sample shape, all or none with labels. Expected is the kind of the first block,
    in row order, that can be read; profiles that come before that is known wait. So which source is named, or skipped,
    does not depend on the order of completion.

    Args:
        placed: all blocks, in row order.
        unread: sources of which no block is known.
        skip: note failures instead of raising them.
    """

    def __init__(self, placed: Sequence[Placed], unread: Sequence[Failure], *, skip: bool) -> None:
        self.placed = placed
        self._unread = unread
        self._skip = skip
        self._tree = MergeTree()
        self._kinds: list[Kind | Failure | None] = [None] * len(placed)
        self._undecided = 0
        self._expected: Kind | None = None
        self._waiting: list[Part] = []
        self._sample_bar = SampleBar()

    @property
    def bar(self) -> int | None:
        """The largest hash of the rows merged so far that can be in the dataset's calibration sample."""
        return self._sample_bar.value

    def take(self, part: Part) -> None:
        """Add the profile of some blocks.

        Raises:
            ShapeError, LabelError: they are of another kind, and failures are not to be skipped.
        """
        for number in part.numbers:
            self._kinds[number] = part.kind
        self._waiting.append(part)
        self._settle()

    def fail(self, number: int, failure: Failure) -> None:
        """Note that a block cannot be read.

        Raises:
            Exception: the failure, where these are not to be skipped.
        """
        if not self._skip:
            raise failure.kind(failure.error)
        self._kinds[number] = failure
        self._settle()

    def finish(self) -> tuple[Profile, tuple[Skipped, ...]]:
        """Return the profile of all rows, and what was skipped, in row order; each block has been told of.

        Raises:
            Exception: nothing could be read; the failure of the first block.
        """
        profile = self._tree.finish()
        failed = [
            (placed, kind) for placed, kind in zip(self.placed, self._kinds, strict=True) if isinstance(kind, Failure)
        ]
        if not profile.n_rows:
            first = failed[0][1]
            raise first.kind(f"none of {len(self.placed)} blocks can be read; the first: {first.error}")
        skipped = []
        for start, rows, uri, failure in _spans(failed):
            self._tree.add(unread_rows(profile, start, start + rows))
            skipped.append(Skipped(uri, start, rows, failure.error))
        not_counted = [Skipped(failure.uri, 0, 0, failure.error) for failure in self._unread]
        return self._tree.finish(), (*skipped, *not_counted)

    def _settle(self) -> None:
        """Merge what is of the expected kind, once that is known."""
        while self._expected is None and self._undecided < len(self._kinds):
            kind = self._kinds[self._undecided]
            if kind is None:
                return
            if isinstance(kind, Failure):
                self._undecided += 1
            else:
                self._expected = kind
        waiting, self._waiting = self._waiting, []
        for part in waiting:
            if part.kind == self._expected:
                self._add(Profile.from_bytes(part.profile))
            else:
                for number in part.numbers:
                    self.fail(number, self._of_another_kind(number, part.kind))

    def _add(self, profile: Profile) -> None:
        self._tree.add(profile)
        self._sample_bar.add(profile)

    def _of_another_kind(self, number: int, kind: Kind) -> Failure:
        assert self._expected is not None
        uri = self.placed[number].block.source.uri
        first = self.placed[self._undecided].block.source.uri
        if kind[0] != self._expected[0]:
            text = f"expected samples of shape {self._expected[0]} as in {first}; got {kind[0]}"
            return Failure(f"{uri}: {text}: a data set has one sample shape", ShapeError, False, str(uri))
        text = f"expected labels in every source or in none; {uri if kind[1] else first} has them"
        return Failure(f"{uri}: {text}, {first if kind[1] else uri} has not", LabelError, False, str(uri))


def _spans(failed: Sequence[tuple[Placed, Failure]]) -> list[tuple[int, int, str, Failure]]:
    """Return (first row, rows, URI, failure) of runs of failed blocks, each of one object."""
    spans: list[tuple[int, int, str, Failure]] = []
    for placed, failure in failed:
        uri = str(placed.block.source.uri)
        if spans and spans[-1][2] == uri and spans[-1][0] + spans[-1][1] == placed.first_row:
            start, rows, _, first = spans[-1]
            spans[-1] = (start, rows + placed.block.rows, uri, first)
        else:
            spans.append((placed.first_row, placed.block.rows, uri, failure))
    return spans
