"""Chooses the cells of the study: few of all that are possible, each level of each factor about equally often."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from random import Random

from benchmarks.study.families import fits, networks
from benchmarks.study.records import Setting
from benchmarks.study.treatments import treatments

FACTORS = ("family", "treatment", "network", "batch_size", "optimizer")
BATCH_SIZES = (2, 4, 8, 16, 32, 128)
OPTIMIZERS = ("sgd", "adam")


def choose(candidates: Iterable[Setting], networks: Mapping[str, int], *, seed: int = 0) -> tuple[Setting, ...]:
    """Return cells out of the candidates, in an order whose every beginning is about as balanced as the whole.

    Greedy: the next network is the one furthest behind its share; of its candidates, the one whose levels, alone and
    in pairs, have been taken least often. Each factor weighs the same, however many levels it has. Equal ones are
    told apart by lot.

    Args:
        candidates: every cell that could be run; none is taken twice.
        networks: how many cells of each network to take; fewer where there are no more candidates.
        seed: of the lot.

    Returns:
        The cells; the same for the same arguments, whatever the order of the candidates.
    """
    pool = sorted(set(candidates), key=repr)
    left = {network: [setting for setting in pool if setting.network == network] for network in networks}
    levels = _level_counts([setting for setting in pool if setting.network in networks])
    taken: Counter[tuple[tuple[str, object], ...]] = Counter()
    chosen: list[Setting] = []
    random = Random(seed)
    shares = {network: min(count, len(left[network])) for network, count in networks.items()}
    total = sum(shares.values())
    while len(chosen) < total:
        network = max(
            (name for name in shares if taken[(("network", name),)] < shares[name]),
            key=lambda name: shares[name] * (len(chosen) + 1) / total - taken[(("network", name),)],
        )
        best = min(left[network], key=lambda setting: (_excess(setting, taken, levels), random.random()))
        left[network].remove(best)
        chosen.append(best)
        taken.update(_levels(best))
    return tuple(chosen)


def _levels(setting: Setting) -> list[tuple[tuple[str, object], ...]]:
    """Return the levels of a cell's factors, alone and in pairs."""
    single = [(factor, getattr(setting, factor)) for factor in FACTORS]
    return [*((level,) for level in single), *combinations(single, 2)]


def _level_counts(settings: Sequence[Setting]) -> dict[tuple[str, ...], int]:
    """Return how many levels each factor, and each pair of factors, has among these cells."""
    seen: dict[tuple[str, ...], set[object]] = {}
    for setting in settings:
        for levels in _levels(setting):
            seen.setdefault(tuple(name for name, _ in levels), set()).add(levels)
    return {names: len(values) for names, values in seen.items()}


def _excess(
    setting: Setting, taken: Mapping[tuple[tuple[str, object], ...], int], counts: Mapping[tuple[str, ...], int]
) -> float:
    """Return how often the levels of a cell have been taken, each relative to the number of levels there are.

    Pairs count by the root of their number, so that the many that there are do not outweigh the single levels.
    """
    total = 0.0
    for levels in _levels(setting):
        number = counts[tuple(name for name, _ in levels)]
        total += taken.get(levels, 0) * (number if len(levels) == 1 else number**0.5)
    return total


def candidates(
    part: str,
    families: Sequence[str],
    treatments: Sequence[str],
    batch_sizes: Sequence[int],
    steps: Mapping[str, int],
) -> Iterator[Setting]:
    """Yield every cell that these levels make and that fits.

    It fits when the family has a network of that name, and rows enough for two batches and each source.

    Args:
        part: of the study.
        families: see families.py.
        treatments: see treatments.py.
        batch_sizes: samples a batch.
        steps: of the optimizer, by network; networks that are not named take no part.
    """
    for family, treatment, batch_size in product(families, treatments, batch_sizes):
        if fits(family, treatment, batch_size):
            for network, optimizer in product(networks(family), OPTIMIZERS):
                if network in steps:
                    yield Setting(part, family, treatment, network, batch_size, optimizer, steps[network])


def grid(
    families: Sequence[str], counts: Mapping[str, int], steps: Mapping[str, int], *, seed: int = 0
) -> tuple[Setting, ...]:
    """Return the cells of questions 1 to 3: `counts` cells of each network, over all treatments and batch sizes."""
    return choose(candidates("grid", families, treatments(), BATCH_SIZES, steps), counts, seed=seed)
