"""The verdict of range tests, in sentences: the rate to train with, what was seen, the bounds, then caveats."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from clr.range_test.curve import MIN_EVALUATIONS, Curve, CurveKind, CurveShape
from clr.range_test.peak import FACTORS

__all__ = ["format_bound", "write_verdict"]

_SEEN = {
    CurveKind.PEAK: "The metric rises, then loses half of its gain or diverges at a higher rate. max_lr is a third of "
    "that rate, as a safety margin.",
    CurveKind.PLATEAU: "The metric rises, then slows, and keeps most of its gain up to the largest rate tested. max_lr "
    "is where the rise slows; larger rates may work too. Test up to a larger end_lr to see where training fails.",
    CurveKind.RISING: "The metric is still rising at the largest rate tested, so max_lr is unknown. Test up to a "
    "larger end_lr.",
    CurveKind.TOO_NARROW: "The metric falls so soon after it rises that base_lr cannot be separated from max_lr. Use "
    "exponential spacing or more updates, or set base_lr to a third of max_lr, as the paper suggests.",
    CurveKind.FALLING: "The metric falls from the start, so neither bound can be found. Start from a smaller start_lr.",
    CurveKind.FLAT: "The metric never rises clearly above its starting value, so neither bound can be found. Test up "
    "to a larger end_lr, train for more updates, or evaluate on more examples.",
    CurveKind.TOO_FEW: f"The curve has fewer than {MIN_EVALUATIONS} evaluations, too few to find either bound. "
    "Evaluate more often.",
    CurveKind.BAD_DATA: "The loss is not finite at a rate at which nothing can have changed. Check the data for NaN "
    "and infinity; no rate causes this.",
}  # fmt: skip
AT_ONCE = (
    f"Training fails before the test has made {MIN_EVALUATIONS} evaluations, at rates up to {{lr:.2g}}, so neither "
    "bound can be found. Start from a smaller start_lr. If these rates are tiny already, check the scale of the "
    "inputs, the targets and the initial weights."
)
ABOVE = (
    "The peak rate is above max_lr, since the training loss goes on gaining where the rise of the metric slows. "
    "Believe the peak rate."
)
MOSTLY = 0.5  # of the fall of the loss
DISAGREE = "The curves disagree ({kinds}), so neither bound can be found. Use more seeds, or more updates."


def write_verdict(
    bounds: Any, shapes: Sequence[CurveShape], curves: Sequence[Curve], test: Any, log_max_lr: float
) -> str:
    """Return the verdict on bounds.

    test: the first one, as it was read.  log_max_lr: what -log(loss) would give as max_lr; NaN if that does not apply.
    """
    agreeing = [shape for shape in shapes if shape.kind == bounds.kind]
    tie = [count for _, count in Counter(shape.kind for shape in shapes).most_common(2)]
    if len(tie) == 2 and tie[0] == tie[1]:
        counts = Counter(shape.kind for shape in shapes)
        words = [DISAGREE.format(kinds=", ".join(f"{count} {kind}" for kind, count in counts.items()))]
    else:
        words = [_seen(bounds, curves), *_bounds(bounds), *_agreement(bounds, agreeing)]
    words = _peaks(bounds) + _constant(bounds) + words  # what to do comes first
    diverged = sum(curve.diverged and not curve.bad_data for curve in curves)
    if diverged and bounds.kind is not CurveKind.TOO_FEW:
        expected = ", as it should when a test goes far enough" if np.isfinite(bounds.max_lr) else ""
        words.append(f"Training diverged in {diverged} of {len(curves)} curves{expected}.")
    words.append(
        f"Based on {len(curves)} curves." if len(curves) > 1 else "Based on one curve: intervals cover its noise, not "
        "the spread between seeds. Use five seeds if you can."
    )  # fmt: skip
    if (
        bounds.kind is not CurveKind.TOO_FEW
        and len(curves) > 1
        and all(test.frame.equals(bounds.tests[0].frame) for test in bounds.tests)
    ):
        words.append("All of them are equal: let train_loader shuffle, or pass a function that makes the model.")
    return " ".join([*words, *_evaluation(bounds, test), *_log_advice(bounds, log_max_lr)])


def format_bound(lr: float, ci: tuple[float, float]) -> str:
    """Return a bound with its interval, in words.

    >>> format_bound(0.0123, (0.011, 0.0139)), format_bound(0.0005, (0.0, 0.0005))
    ('0.012 (95% CI 0.011 to 0.014)', '0.0005 or lower')
    """
    low, high = ci
    return f"{lr:.2g} or lower" if low == 0 and high == lr else f"{lr:.2g} (95% CI {low:.2g} to {high:.2g})"


def _seen(bounds: Any, curves: Sequence[Curve]) -> str:
    """Return what most curves show."""
    if bounds.kind is CurveKind.TOO_FEW and any(curve.diverged for curve in curves):
        return AT_ONCE.format(lr=max(test.frame["lr"].max() for test in bounds.tests))
    above = bounds.kind is CurveKind.PLATEAU and bounds.peaks["triangular"][0] > bounds.max_lr
    return f"{_SEEN[bounds.kind]} {ABOVE}" if above else _SEEN[bounds.kind]


def _bounds(bounds: Any) -> list[str]:
    found = (("base_lr", bounds.base_lr, bounds.base_ci), ("max_lr", bounds.max_lr, bounds.max_ci))
    return [f"{name}: {format_bound(lr, ci)}." for name, lr, ci in found if np.isfinite(lr)]


def _agreement(bounds: Any, agreeing: Sequence[CurveShape]) -> list[str]:
    words, n, agree = [], bounds.n_curves, len(agreeing)
    if agree < n and np.isfinite([bounds.base_lr, bounds.max_lr]).any():
        words.append(f"{agree} of {n} curves show this; the bounds come from these curves.")
    elif agree < n:
        words.append(f"Only {agree} of {n} curves show this.")
    early = sum(shape.rises_at_start for shape in agreeing) if np.isfinite(bounds.base_lr) else 0
    if early and early == agree:
        words.append("The metric is already rising at the first evaluation, so base_lr is an upper limit.")
    elif early:
        words.append(f"In {early} of {agree} curves the metric is already rising at the first evaluation, so base_lr "
                     "may be lower than shown.")  # fmt: skip
    return words


def _peaks(bounds: Any) -> list[str]:
    triangular, (low, high) = bounds.peaks["triangular"]
    if not np.isfinite(triangular):
        return []
    words = [f"Train with a peak rate of {triangular:.2g} on a triangular schedule (the best one likely lies between "
             f"{low:.2g} and {high:.2g}); peak_lr gives those of other schedules."]  # fmt: skip
    if triangular * FACTORS["triangular"] > 0.999 * max(test.frame["lr"].max() for test in bounds.tests):
        words.append("The training loss keeps its gain up to the largest rate tested, so higher peak rates may work.")
    return words


def _constant(bounds: Any) -> list[str]:
    """Return a warning where the targets' mean makes most of the fall of the loss and is far from the outputs."""
    tests = [test for test in bounds.tests if getattr(test, "constant_loss", None) is not None]
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
            "of the fall in loss, so a rate at which it learns nothing else can pass for a good one. Standardize the "
            "targets, then test again."]  # fmt: skip


def _evaluation(bounds: Any, test: Any) -> list[str]:
    """Return what the metric was, and on what it was evaluated."""
    words: list[str] = []
    chosen, examples = getattr(test, "metric_name", "metric"), getattr(test, "examples", 0)
    if chosen != "metric":
        words.append(f"The metric is {chosen}, since none was given.")
    if examples:
        sharper = bounds.kind in (CurveKind.FLAT, CurveKind.TOO_NARROW) or not _is_sharp(bounds)
        more = " More of them, in larger batches of val_loader, would sharpen the bounds." if sharper else ""
        words.append(f"Each evaluation looks at {examples} examples.{more}")
    if not all(test.held_out for test in bounds.tests):
        words.append("Some evaluation batches were also trained on. Pass a val_loader.")
    return words


def _is_sharp(bounds: Any) -> bool:
    """Return whether the known bounds' intervals span less than a factor of three."""
    return all(high < 3 * low or low == 0 for low, high in (bounds.base_ci, bounds.max_ci) if np.isfinite(high))


def _log_advice(bounds: Any, log_max_lr: float) -> list[str]:
    if not np.isfinite([bounds.max_lr, log_max_lr]).all() or 0.5 <= log_max_lr / bounds.max_lr <= 2:
        return []
    return [f"With the logarithm of the loss as metric, max_lr would be {log_max_lr:.2g}; prefer that one: "
            "metric=lambda outputs, targets: -loss_fn(outputs, targets).log()."]  # fmt: skip
