"""Merged profiles, kept for the next plan of the same shards; gone soon after their assessment is."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from assessor import Profile

_CacheKey = tuple[str, tuple[tuple[int, str], ...]]


class ProfileCache:
    """Merged profiles by what was merged; the least recently used goes first. Safe between threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[_CacheKey, Profile] = OrderedDict()
        self._lock = Lock()

    def get(self, key: _CacheKey, load: Callable[[], Profile]) -> Profile:
        """Return the profile under `key`, made by `load` where it is not there."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        # Outside the lock: a long merge holds up no other assessment.
        profile = load()
        with self._lock:
            self._entries[key] = profile
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return profile

    @property
    def assessments(self) -> set[str]:
        """The assessments whose profiles are held."""
        with self._lock:
            return {assessment_id for assessment_id, _ in self._entries}

    def drop(self, assessment_id: str) -> None:
        """Let go of an assessment's profiles: it was removed."""
        with self._lock:
            for key in [key for key in self._entries if key[0] == assessment_id]:
                del self._entries[key]

    def __len__(self) -> int:
        """Return the number of profiles held."""
        return len(self._entries)
