"""A plan: for each batch, normalize or skip, with score and reason."""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assessor.advice import Advice, advise_on, check_network
from assessor.errors import FingerprintError, SettingError
from assessor.frozen import FrozenDict
from assessor.measures import measures
from assessor.measures.scores import Reach, Scores
from assessor.methods import choose
from assessor.moments import Floats
from assessor.order import SampleOrder, fingerprint
from assessor.profile import Profile, require_profile
from assessor.profiler import profile_array
from assessor.recommendation import recommend
from assessor.thresholds import parse_threshold
from assessor.view import BatchView, view_batches
from assessor.whole_files import written_whole

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Decision:
    """What to do with one batch.

    Attributes:
        index: number of the batch in the order of assessment.
        normalize: True to normalize, False to skip.
        score: in the measure's unit; NaN where it is undefined (the batch is then skipped).
        cutoff: the batch is normalized when score > cutoff.
        reason: one sentence.
    """

    index: int
    normalize: bool
    score: float
    cutoff: float
    reason: str


@dataclass(frozen=True, eq=False)
class Plan:
    """The decisions for all batches of a dataset; immutable.

    Attributes:
        method, measure, threshold: what decided.
        batch_size: samples a batch; the last batch may be smaller unless `drop_last`.
        n_rows: samples in the dataset.
        order: which samples form which batch.
        scores, cutoffs: shape (batches,), float64.
        normalize: shape (batches,), bool.
        details: columns of the same length, from which reasons are worded.
        decomposition: for `need`, the parts "global", "feature", "drift", "noise" of the mean over complete batches,
            in nats (FORMULAS 2.2): the first three sum to the mean score. Else None.
        action: what to do with the dataset as a whole: "nothing", "scale", "standardize", "normalize" (the flagged
            batches) or "unknown".
        recommendation: the same in words, with the reason.
        notes: what was left out, imputed or approximated.
        rule: numbers with which a batch that is not in the plan can be judged.
        advice: what to do and which norm to take, ranked by what the study measured on data like this; None in plans
            that were made without it.
        source_order: SHA-256 name of the order of the sources that make the dataset, where there are several and they
            are known: part of the fingerprint. None for arrays, uploads and single sources.
    """

    method: str
    measure: str
    threshold: str
    batch_size: int
    drop_last: bool
    n_rows: int
    order: SampleOrder
    scores: Floats
    cutoffs: Floats
    normalize: NDArray[np.bool_]
    details: Mapping[str, NDArray[Any]]
    decomposition: Mapping[str, float] | None
    action: str
    recommendation: str
    notes: tuple[str, ...]
    rule: Mapping[str, Any]
    advice: Advice | None = None
    source_order: str | None = None

    def __post_init__(self) -> None:
        for name in ("scores", "cutoffs", "normalize"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))
        columns = {name: _read_only(column) for name, column in self.details.items()}
        object.__setattr__(self, "details", FrozenDict(columns))
        object.__setattr__(self, "rule", FrozenDict(self.rule))
        if self.decomposition is not None:
            object.__setattr__(self, "decomposition", FrozenDict(self.decomposition))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int) -> Decision:
        """Return the decision of one batch; negative numbers count from the last.

        Raises:
            IndexError: no such batch. TypeError: not an integer.
        """
        n = len(self)
        try:
            i = operator.index(index)
        except TypeError:
            raise TypeError(f"expected the number of a batch, 0 to {n - 1}; got {index!r}: iterate for more") from None
        if not -n <= i < n:
            raise IndexError(f"expected a batch from 0 to {n - 1}; got {i}")
        i %= n
        return Decision(
            i,
            bool(self.normalize[i]),
            float(self.scores[i]),
            float(self.cutoffs[i]),
            self._reason(i),
        )

    def __eq__(self, other: object) -> bool:
        """Whether both plans say the same: their JSON is the same text, which is not made for it."""
        if not isinstance(other, Plan):
            return NotImplemented
        from assessor.plan_file import same_plan

        return same_plan(self, other)

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.method, self.threshold, self.recommendation))

    def __iter__(self) -> Iterator[Decision]:
        return (self[i] for i in range(len(self)))

    @property
    def flagged_fraction(self) -> float:
        """Share of batches that need normalization, 0 to 1."""
        return float(self.normalize.mean())

    @property
    def fingerprint(self) -> str:
        """Name of the layout of samples into batches that was assessed, and of the order of their sources."""
        return fingerprint(self.order, self.n_rows, self.batch_size, self.drop_last, source_order=self.source_order)

    @property
    def unit(self) -> str:
        """Unit of scores and cutoffs: "nats" or "" (a ratio)."""
        known = self.measure in measures.names()
        return measures.get(self.measure).unit if known else ""

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the decisions as columns: index, normalize, score, cutoff and the measure's details."""
        return {
            "index": np.arange(len(self)),
            "normalize": self.normalize,
            "score": self.scores,
            "cutoff": self.cutoffs,
            **self.details,
        }

    def to_arrow(self) -> "pyarrow.Table":
        """Return `to_columns` as an Arrow table; its schema's metadata holds all else of `to_json` but the columns.

        Undefined scores stay NaN, they are not nulls.

        Raises:
            SettingError: pyarrow is not installed.
        """
        from assessor.plan_arrow import arrow_table

        return arrow_table(self)

    def to_frame(self) -> "pyarrow.Table":
        """Return `to_arrow`, under the name that data frames are asked for by; `.to_pandas()` goes on from there."""
        return self.to_arrow()

    def check_order(self, order: SampleOrder, n_rows: int, batch_size: int, drop_last: bool) -> None:
        """Check that batches laid out so are those that were assessed.

        The order of sources is not asked for: a dataset tells its rows, not where they come from.

        Raises:
            FingerprintError: names what differs.
        """
        assessed_layout = fingerprint(self.order, self.n_rows, self.batch_size, self.drop_last)
        if fingerprint(order, n_rows, batch_size, drop_last) == assessed_layout:
            return
        asked = {
            "samples": int(n_rows),
            "batch_size": int(batch_size),
            "drop_last": bool(drop_last),
            "order": order.to_dict(),
        }
        assessed = {
            "samples": self.n_rows,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "order": self.order.to_dict(),
        }
        differ = "; ".join(
            f"{name} {assessed[name]} were assessed, {asked[name]} are asked for"
            for name in asked
            if asked[name] != assessed[name]
        )
        raise FingerprintError(
            f"expected the batches that the plan assessed; {differ}: use the plan's own settings or assess again"
        )

    def to_json(self) -> str:
        """Return the plan as JSON, schema `normgauge.plan/1`."""
        from assessor.plan_file import dump_plan

        return dump_plan(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Plan":
        """Return the plan that `to_json` wrote.

        Raises:
            PlanFormatError: not such a text, or of another version.
        """
        from assessor.plan_file import load_plan

        return load_plan(text)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan as JSON, or in columns where the name ends with ".arrow"; the file is whole or not there.

        Raises:
            SettingError: columns are to be written, and pyarrow is not installed.
        """
        target = Path(path)
        with written_whole(target) as partial:
            if target.suffix == ".arrow":
                from assessor.plan_arrow import write_plan

                write_plan(self, partial)
            else:
                partial.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Plan":
        """Return the plan in a file; one in columns is mapped, not read, see `assessor.plan_arrow`.

        Raises:
            PlanFormatError: it holds no plan. OSError: it cannot be read.
            SettingError: it is in columns, and pyarrow is not installed.
        """
        with Path(path).open("rb") as file:
            if file.read(6) == b"ARROW1":
                from assessor.plan_arrow import open_plan

                return open_plan(path)
            file.seek(0)
            return cls.from_json(file.read())

    def _reason(self, i: int) -> str:
        score, cutoff, unit = self.scores[i], self.cutoffs[i], f" {self.unit}" if self.unit else ""
        details = {k: float(v[i]) for k, v in self.details.items()}
        if n := details.get("nonfinite_rows", 0):
            return f"{n:.0f} of its rows hold values that are not finite: normalize, as nonfinite='normalize' asks"
        n = details.get("excluded_rows", 0)
        without = f"; {n:.0f} of its rows hold values that are not finite and are left out" if n else ""
        if unread := details.get("unread_rows", 0):
            n, without = unread, f"; {unread:.0f} of its rows could not be read and are left out"
        if np.isnan(score) and n:
            return f"the score is undefined (too few rows are left){without}; skipped"
        if np.isnan(score):
            return "the score is undefined (one value per feature, or no feature varies); skipped"
        compared = f"score {score:.4g} {'>' if self.normalize[i] else '<='} cutoff {cutoff:.4g}{unit}"
        if self.measure not in measures.names():
            return compared + without
        return f"{compared}: {measures.get(self.measure).explain(details)}{without}"


def _read_only(column: Any) -> Any:
    if not isinstance(column, np.ndarray):  # packed bits of a file, which cannot be written
        return column
    view = column.view()
    view.flags.writeable = False
    return view


def make_plan(
    profile: Profile,
    *,
    method: str = "need",
    batch_size: int | None = None,
    threshold: str | float | None = None,
    drop_last: bool = False,
    order: SampleOrder | None = None,
    network: str | None = None,
    **options: Any,
) -> Plan:
    """Return the plan of a profile: a pure function of its arguments.

    Args:
        profile: of all rows 0 to N - 1.
        method: a registered method; or a registered measure, with a threshold.
        batch_size: one of those profiled; None takes the only one.
        threshold: replaces the method's own: a cutoff, or a text such as "null(0.01)" or "otsu()".
        drop_last: leave a last, smaller batch out.
        order: how the dataset's samples were laid out into rows; None is dataset order.
        network: the model family that the advice is for, "mlp", "convnet", "resnet" or "lstm"; None: not known.
        **options: of the method's measure: null="residual" | "normal" (heterogeneity), published_exact=False
            (published), corrected=False (location_share).

    Raises:
        UnknownNameError, SettingError: an argument out of its range.
        GapError: rows are missing.
    """
    measure_name, chosen_threshold = choose(method, threshold)
    measure = measures.get(measure_name)
    unknown = sorted(set(options) - measure.options)
    if unknown:
        takes = ", ".join(sorted(measure.options)) or "none"
        raise SettingError(f"expected options of method {method!r} among: {takes}; got {', '.join(unknown)}")
    known = check_network(network)
    threshold_text, cut = parse_threshold(chosen_threshold)
    view = view_batches(require_profile(profile), batch_size, drop_last)
    scores = _without_rows(view, measure.score(view, **options))
    cutoffs = np.broadcast_to(np.asarray(cut(scores), np.float64), scores.values.shape)
    with np.errstate(invalid="ignore"):
        normalize = scores.values > cutoffs
    typical = float(np.median(cutoffs))
    advised = advise_on(scores.decomposition, view.batch_size, network=known)
    recommended = recommend(view, scores, normalize, typical, advised)
    noted = [] if float(np.ptp(cutoffs)) == 0 else ["cutoffs differ with the number of features that vary"]
    if profile.n_rows < view.batch_size:
        noted.append(
            f"no batch is complete: there are {profile.n_rows} rows, fewer than batch_size {view.batch_size}; "
            "profile the data with a smaller one"
        )
    reach = Reach({}, ()) if scores.reach is None else scores.reach(cutoffs)
    return Plan(
        method=method,
        measure=measure_name,
        threshold=threshold_text,
        batch_size=view.batch_size,
        drop_last=bool(drop_last),
        n_rows=profile.n_rows,
        order=order or SampleOrder.ROWS,
        scores=scores.values,
        cutoffs=cutoffs,
        normalize=normalize,
        details={**scores.details, **reach.details},
        decomposition=scores.decomposition,
        action=recommended.action,
        recommendation=recommended.text,
        notes=(*scores.notes, *noted, *reach.notes),
        rule={**scores.rule, "cutoff": typical},
        advice=advised,
    )


def _counted(n: int, thing: str) -> str:
    """Return a number of things in words.

    >>> _counted(1, "batch"), _counted(2, "batch")
    ('1 batch', '2 batches')
    """
    return f"{n} {thing}" if n == 1 else f"{n} {thing}{'es' if thing.endswith('ch') else 's'}"


def _without_rows(view: BatchView, scores: Scores) -> Scores:
    """Return the scores with what follows from rows that were left out: undefined, or to be normalized."""
    n_left_out = int(view.left_out.sum())
    if not n_left_out:
        return scores
    affected = view.left_out > 0
    asked = view.profile.schema.nonfinite
    # Where values that are not finite are an error, rows are left out only with a source that could not be read.
    why = "could not be read" if asked == "raise" else "hold values that are not finite"
    where = f"{_counted(n_left_out, 'row')} in {_counted(int(affected.sum()), 'batch')}"
    if n_left_out == 1:
        text = f"{where} {why.replace('hold', 'holds')} and is in no moments"
    else:
        text = f"{where} {why} and are in no moments"
    if asked == "normalize":
        column, values = "nonfinite_rows", np.where(affected, np.inf, scores.values)
        text += f"; these batches are to be normalized, as nonfinite={asked!r} asks"
    else:
        column, few = "unread_rows" if asked == "raise" else "excluded_rows", view.too_few
        values = np.where(few, np.nan, scores.values)
        if few.any():
            text += f"; {int(few.sum())} batches have fewer than 2 rows left: their score is undefined"
    details = {**scores.details, column: view.left_out.astype(np.float64)}
    return replace(scores, values=values, details=details, notes=(text, *scores.notes))


def assess(
    x: ArrayLike,
    *,
    batch_size: int,
    labels: ArrayLike | None = None,
    method: str = "need",
    threshold: str | float | None = None,
    drop_last: bool = False,
    feature_axis: str = "element",
    nonfinite: str = "raise",
    network: str | None = None,
    **options: Any,
) -> Plan:
    """Return the plan of an array's batches x[0:B], x[B:2B], ...

    Args:
        x: shape (N, *), numbers.
        batch_size: B >= 1.
        labels: shape (N,), integers; used by the method `published`.
        method, threshold, drop_last, network, **options: see `make_plan`.
        feature_axis: "element" or "channel".
        nonfinite: "raise", "exclude" or "normalize", see `Profiler`.

    Raises:
        AssessorError: bad data or settings.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(5, 3, size=(64, 8))
    >>> plan = assess(x, batch_size=16)
    >>> len(plan), plan.flagged_fraction
    (4, 1.0)
    """
    choose(method, threshold)
    check_network(network)
    profile = profile_array(x, batch_sizes=[batch_size], labels=labels, feature_axis=feature_axis, nonfinite=nonfinite)
    return make_plan(profile, method=method, threshold=threshold, drop_last=drop_last, network=network, **options)
