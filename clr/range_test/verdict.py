"""The verdict of range tests, one sentence per line: what to do, what was seen, the bounds, then caveats."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from clr.range_test.curve import MIN_EVALUATIONS, Curve, CurveKind, CurveShape
from clr.range_test.peak import HOLDS, INTERVAL
from clr.range_test.record import share_rates

__all__ = ["format_bound", "write_verdict"]

_SEEN = {
    CurveKind.PEAK: "The metric rises, then loses half of its gain or diverges{at}.",
    CurveKind.PLATEAU: "The metric rises, then slows, and keeps most of its gain up to the largest rate tested.",
    CurveKind.RISING: "The metric is still rising at the largest rate tested.",
    CurveKind.TOO_NARROW: "The metric falls{at}, too soon after it rises to tell where learning starts.",
    CurveKind.FALLING: "The metric falls, without a clear rise before.",
    CurveKind.FLAT: "The metric never rises clearly above its starting value.",
    CurveKind.TOO_FEW: f"There are fewer than {MIN_EVALUATIONS} evaluations in a curve, too few to find bounds.",
    CurveKind.BAD_DATA: "The loss is not finite at a rate at which nothing can have changed; no rate causes this.",
    CurveKind.DISAGREE: "The curves disagree ({kinds}).",
}
_ADVICE = {  # how to find the bounds that are unknown
    CurveKind.PLATEAU: "test up to a larger end_lr to see where training fails",
    CurveKind.RISING: "test up to a larger end_lr",
    CurveKind.TOO_NARROW: "use more updates; the paper suggests a third of max_lr as base_lr",
    CurveKind.FALLING: "start from a smaller start_lr, unless the model is trained already",
    CurveKind.FLAT: "test up to a larger end_lr, train for more updates, or evaluate on more examples",
    CurveKind.TOO_FEW: "evaluate more often",
    CurveKind.BAD_DATA: "check the data for NaN and infinity",
    CurveKind.DISAGREE: "use more seeds, or more updates",
}
_WHY = {  # max_lr
    CurveKind.PEAK: ", an upper limit: a third of {failure:.2g}",
    CurveKind.PLATEAU: ", where the rise slows; larger rates may work too",
    CurveKind.TOO_NARROW: ", an upper limit: a third of {failure:.2g}",
}
_AT_ONCE = (
    f"Training fails before the test has made {MIN_EVALUATIONS} evaluations, at rates up to {{lr:.2g}}.",
    "start from a smaller start_lr or, if these rates are tiny already, check the scale of inputs, targets and weights",
)
_TOO_NOISY = "The curve is too noisy to tell at which rate."
_FALLS = "The peak rate is above max_lr, since the loss still gains where the metric falls."
_ABOVE = {  # the peak rate above max_lr, by what the metric does there
    CurveKind.PLATEAU: "The peak rate is above max_lr, since the loss still gains where the rise of the metric slows.",
    CurveKind.PEAK: _FALLS,
    CurveKind.TOO_NARROW: _FALLS,
}
_TRY_BOTH = "Try max_lr as the peak rate, too, and keep the better one."
TOO_WIDE = 100  # an interval over a larger factor says nothing
_OTHER_ADVICE = (CurveKind.TOO_FEW, CurveKind.BAD_DATA)  # than on a rate to train with
MOSTLY = 0.5  # of the fall of the loss


def write_verdict(
    bounds: Any,
    shapes: Sequence[CurveShape],
    curves: Sequence[Curve],
    test: Any,
    log_max_lr: float,
    solved: bool = False,
) -> str:
    """Return the verdict on bounds, one sentence per line.

    test: the first one, as it was read.  log_max_lr: what -log(loss) would give as max_lr; NaN if that does not apply.
    solved: whether the training loss has fallen to a hundredth and stayed low.
    """
    seen, advice = _found(bounds, shapes, curves)
    words = _with_advice(seen + _agreement(bounds, shapes) + _bound_sentences(bounds), advice, bounds)
    words = [*_no_peak(bounds), *_peak_sentences(bounds, solved), *_mean_predictor_warning(bounds), *words]
    diverged = sum(curve.diverged and not curve.bad_data for curve in curves)
    if diverged and bounds.kind is not CurveKind.TOO_FEW:
        expected = ", as it should when a test goes far enough" if np.isfinite(bounds.max_lr) else ""
        words.append(f"Training diverged in {diverged} of {len(curves)} curves{expected}.")
    words += _based_on(bounds)
    return "\n".join([*words, *_evaluation(bounds, test), *_log_advice(bounds, log_max_lr)])


def _with_advice(words: list[str], advice: str, bounds: Any) -> list[str]:
    """Return the words with what is unknown and the advice, which comes first unless a peak rate is known."""
    unknown = [name for name in ("base_lr", "max_lr") if np.isnan(getattr(bounds, name))]
    known_peak = np.isfinite(bounds.peaks["linear"][0])
    if unknown:
        stands = "; the peak rate stands, as it is read from the training loss" if known_peak else ""
        words = [*words, f"Unknown: {' and '.join(unknown)}{stands}."]
    if not advice:
        return words
    sentence = f"{advice[0].upper()}{advice[1:]}."
    if not known_peak:
        return [sentence, *words]
    return [*words, f"To know more, {advice}." if unknown else sentence]


def format_bound(lr: float, ci: tuple[float, float]) -> str:
    """Return a bound with its interval, in words.

    >>> format_bound(0.0123, (0.011, 0.0139)), format_bound(0.0005, (0.0, 0.0005))
    ('0.012 (95% CI 0.011 to 0.014)', '0.0005 or lower')
    """
    low, high = ci
    return f"{lr:.2g} or lower" if low == 0 and high == lr else f"{lr:.2g} (95% CI {low:.2g} to {high:.2g})"


def _found(bounds: Any, shapes: Sequence[CurveShape], curves: Sequence[Curve]) -> tuple[list[str], str]:
    """Return what more than half of the curves show, and what to do about it ("" for nothing)."""
    if bounds.kind is CurveKind.TOO_FEW and any(curve.diverged for curve in curves):
        return [_AT_ONCE[0].format(lr=max(test.frame["lr"].max() for test in bounds.tests))], _AT_ONCE[1]
    counts = Counter(shape.kind for shape in shapes)
    at = f" at {bounds.failure_lr:.2g}" if np.isfinite(bounds.failure_lr) else ""
    seen = _SEEN[bounds.kind].format(at=at, kinds=", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if bounds.kind in _WHY and np.isnan(bounds.max_lr):
        return [seen, _TOO_NOISY], _ADVICE[CurveKind.DISAGREE]
    if bounds.kind is CurveKind.DISAGREE and CurveKind.BAD_DATA in counts:
        return [seen], _ADVICE[CurveKind.BAD_DATA]
    return [seen], _ADVICE.get(bounds.kind, "")


def _bound_sentences(bounds: Any) -> list[str]:
    words = []
    why = _WHY.get(bounds.kind, "").format(failure=bounds.failure_lr)
    for name, lr, (low, high), reason in (
        ("base_lr", bounds.base_lr, bounds.base_ci, ", where learning starts"),
        ("max_lr", bounds.max_lr, bounds.max_ci, why),
    ):
        if high > TOO_WIDE * low > 0:
            words.append(f"{name}: {lr:.2g}, too uncertain to use; its 95% CI spans more than a factor of {TOO_WIDE}.")
        elif np.isfinite(lr):
            words.append(f"{name}: {format_bound(lr, (low, high))}{reason}.")
    return words + _peak_outside(bounds)


def _peak_outside(bounds: Any) -> list[str]:
    """Return what to make of a peak rate that lies outside the bounds."""
    peak = bounds.peaks["linear"][0]
    if peak > bounds.max_lr and bounds.kind in _ABOVE:
        return [_ABOVE[bounds.kind], "Believe the peak rate." if bounds.kind is CurveKind.PLATEAU else _TRY_BOTH]
    if peak < bounds.base_lr:
        return ["The peak rate is below base_lr, so the two readings disagree: test with more updates."]
    return []


def _agreement(bounds: Any, shapes: Sequence[CurveShape]) -> list[str]:
    if bounds.kind is CurveKind.DISAGREE:
        return []
    agreeing = [shape for shape in shapes if shape.kind == bounds.kind]
    words, n, agree = [], bounds.n_curves, len(agreeing)
    if agree < n and np.isfinite([bounds.base_lr, bounds.max_lr]).any():
        words.append(f"{agree} of {n} curves show this; the bounds come from these curves.")
    elif agree < n:
        words.append(f"Only {agree} of {n} curves show this.")
    early = sum(shape.rises_at_start for shape in agreeing) if np.isfinite(bounds.base_lr) else 0
    if early:
        where = "The" if early == agree else f"In {early} of {agree} curves the"
        words.append(f"{where} metric is already rising at the first evaluation, so base_lr may be lower than shown.")
    return words


def _peak_sentences(bounds: Any, solved: bool) -> list[str]:
    peak, (low, high) = bounds.peaks["linear"]
    if not np.isfinite(peak):
        return []
    words = [
        f"Train with a peak rate of {peak:.2g} (constant: {bounds.peaks['constant'][0]:.2g}).",
        f"The best peak should lie within a factor of {INTERVAL:g}, {low:.2g} to {high:.2g}: it did in {HOLDS[0]} to "
        f"{HOLDS[1]}% of cases tested.",
    ]
    if bounds.kind in (CurveKind.FLAT, CurveKind.FALLING, CurveKind.DISAGREE):
        words.append("Only the training loss speaks for it: the metric does not show that the model learns.")
    if solved:
        words.append(f"The test has solved its task by {bounds.landmark:.2g}, where the loss is a hundredth "
                     "of the untrained one, so higher peak rates may work.")  # fmt: skip
    elif bounds.landmark > 0.999 * max(test.frame["lr"].max() for test in bounds.tests):
        words.append("The training loss keeps its gain up to the largest rate tested, so higher peak rates may work.")
    return words


def _no_peak(bounds: Any) -> list[str]:
    """Return why there is no rate to train with, where the curves are long enough and have losses, and what to do."""
    has_losses = all("train_loss" in test.frame for test in bounds.tests)
    if np.isfinite(bounds.peaks["linear"][0]) or not has_losses or bounds.kind in _OTHER_ADVICE:
        return []
    if bounds.tests[0].spacing == "linear":
        return ['No rate to train with is read from linear spacing: test with spacing="exponential".']
    if not share_rates(bounds.tests):
        return ["No rate to train with: the curves must share start_lr, end_lr and iterations."]
    if bounds.kind in (CurveKind.FLAT, CurveKind.FALLING, CurveKind.DISAGREE):  # whose advice is for both
        return []
    known = f", or train below max_lr ({bounds.max_lr:.2g})" if np.isfinite(bounds.max_lr) else ""
    return ["No rate to train with: the training loss never falls clearly, as where a model is trained already.",
            f"Give each curve more updates, for example four times as many{known}."]  # fmt: skip


def _based_on(bounds: Any) -> list[str]:
    if bounds.n_curves == 1:
        return ["Based on one curve: intervals cover its noise, not the spread between seeds. Use five if you can."]
    few = bounds.kind is CurveKind.TOO_FEW
    equal = not few and all(test.frame.equals(bounds.tests[0].frame) for test in bounds.tests)
    more = "All of them are equal: let train_loader shuffle, or pass a function that makes the model."
    return [f"Based on {bounds.n_curves} curves.", *([more] if equal else [])]


def _mean_predictor_warning(bounds: Any) -> list[str]:
    """Return a warning where the targets' mean makes most of the fall of the loss and is far from the outputs."""
    tests = [test for test in bounds.tests if test.constant_loss is not None]
    shares = []
    for test in tests:
        losses = test.frame["train_loss"].replace(np.inf, np.nan).dropna()
        start = float(np.mean(test.losses[:5] or losses[:1]))
        if not len(losses) or not np.isfinite(start):
            continue
        far = start > 2 * test.constant_loss  # further than the targets are from their mean
        shares.append(far * (start - test.constant_loss) / max(start - losses.min(), 1e-300))
    if not shares or not np.median(shares) > MOSTLY:
        return []
    return [f"A net that gives the mean of the targets for every input already makes {min(np.median(shares), 1):.0%} "
            "of the fall in loss, so a rate at which it learns nothing else can pass for a good one.",
            "Standardize the targets, then test again."]  # fmt: skip


def _evaluation(bounds: Any, test: Any) -> list[str]:
    """Return what the metric is, and on what it is evaluated."""
    words: list[str] = []
    if test.metric_name != "metric":
        words.append(f"The metric is {test.metric_name}, since none was given.")
    if test.examples:
        sharper = bounds.kind in (CurveKind.FLAT, CurveKind.TOO_NARROW, CurveKind.DISAGREE) or not _is_sharp(bounds)
        words.append(f"Each evaluation looks at {test.examples} examples.")
        if sharper:
            words.append("If val_loader has more, larger batches of it would sharpen the bounds.")
    if bounds.kind is CurveKind.FALLING and test.metric_name == "metric":
        words.append("If less of your metric is better, return it with a minus.")
    if any(test.one_class for test in bounds.tests):
        words.append("All of them are of one class: is val_loader sorted, or are the loaders swapped?")
    if not all(test.held_out for test in bounds.tests):
        words.append("Some evaluation batches were also trained on. Pass a val_loader.")
    return words


def _is_sharp(bounds: Any) -> bool:
    """Return whether the known bounds' intervals span less than a factor of three."""
    return all(high < 3 * low or low == 0 for low, high in (bounds.base_ci, bounds.max_ci) if np.isfinite(high))


def _log_advice(bounds: Any, log_max_lr: float) -> list[str]:
    if not np.isfinite([bounds.max_lr, log_max_lr]).all() or 0.5 <= log_max_lr / bounds.max_lr <= 2:
        return []
    return [f"With the logarithm of the loss as metric, max_lr would be {log_max_lr:.2g}; prefer that one:",
            "metric=lambda outputs, targets: -loss_fn(outputs, targets).log()"]  # fmt: skip
