"""One cell of the study: all its arms, tuned, trained and tested."""

from collections.abc import Iterator, Sequence

from benchmarks.study import arms as catalogue
from benchmarks.study.assessing import assess_cell
from benchmarks.study.families import load
from benchmarks.study.records import Record, Result, Setting
from benchmarks.study.training import Bench, Budget

TUNING_SEED = 0
SEEDS = (1, 2, 3, 4, 5)


def run_cell(
    setting: Setting, arms: Sequence[str], seeds: Sequence[int] = SEEDS, *, device: str = "cpu"
) -> Iterator[Record]:
    """Yield what the assessor says for each seed, then each arm's result.

    An arm that a network or the samples do not allow (arms.applies) is left out. The rate is tuned on a seed apart
    from the others.

    Args:
        setting: of the cell; each arm is also tested by its `arms.evaluations`.
        arms: names.
        seeds: reported; none of them TUNING_SEED.
        device: "cpu" or "cuda".

    Raises:
        ValueError: TUNING_SEED among the seeds. KeyError: an unknown arm.
    """
    if TUNING_SEED in seeds:
        raise ValueError(f"expected seeds other than {TUNING_SEED}, which tunes the learning rates; got {seeds}")
    chosen = [catalogue.get(name) for name in arms]
    bench = Bench(Budget(setting.network, setting.batch_size, setting.optimizer, setting.steps, device))
    data = {seed: load(setting.family, setting.treatment, seed, setting.batch_size) for seed in (TUNING_SEED, *seeds)}
    for seed in seeds:
        yield assess_cell(setting, seed, data[seed], bench)
    shape = tuple(data[TUNING_SEED].x.shape[1:])
    for arm in chosen:
        if not catalogue.applies(arm.name, setting.network, shape):
            continue
        tuned = bench.tune(data[TUNING_SEED], arm, TUNING_SEED)
        asked = catalogue.evaluations(arm.name, setting.part)
        runs = tuple(bench.run(data[seed], arm, tuned.rate, seed, asked) for seed in seeds)
        yield Result(setting, arm.name, tuned.rate, tuned.tried, runs)
