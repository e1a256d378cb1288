"""The questions that the runs decide, and how: stated here, as data, before the runs that decide them.

Each question compares two arms seed by seed. Where a question or its margin came up after some of its runs had been
seen, its note says so. Where their curves chose what is compared, it is exploratory.
"""

from dataclasses import dataclass

__all__ = ["MARGIN", "QUESTIONS", "Question", "Reading"]

MARGIN = 1.0  # points of accuracy within which two ends are called equal


@dataclass(frozen=True)
class Reading:
    """Where an arm is read.

    at: after how many updates; of several the mean accuracy counts.
    best_of: arms of which the best is read: the one whose mean is highest over the seeds that all of them have. That is
        chosen after the fact, and so flatters the best. `arm` is then what the pages call it.
    """

    experiment: str
    arm: str
    at: tuple[int, ...]
    best_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question that the difference between two readings, first minus second, answers.

    key: what the issue and the pages call it.  what: the difference in words.
    answers: at most five words for each outcome: "above" or "below" when the 95% interval excludes zero, "equal" when
        the 90% interval lies within MARGIN (two one-sided tests at 5%). "equal" comes first where
        `asks_equality`, else the sign does. Any other outcome is open.
    measure: "points" of accuracy; or "updates", by how many the first reaches its accuracy earlier than the second.
    note: what was known when the question was stated; empty if nothing.
    exploratory: whether the curves of some of its runs chose what is compared.
    """

    key: str
    text: str
    what: str
    first: Reading
    second: Reading
    answers: dict[str, str]
    asks_equality: bool = False
    measure: str = "points"
    note: str = ""
    exploratory: bool = False


def _headline(arm: str, *at: int) -> Reading:
    return Reading("headline" if arm in ("fixed", "triangular") else "headline-controls", arm, at)


def _controls(arm: str, *at: int) -> Reading:
    return Reading("controls", arm, at)


def _paper(arm: str, *at: int) -> Reading:
    return Reading("paper-table-1", arm, at)


def _resnet(arm: str, at: int = 8000) -> Reading:
    return Reading("resnet", arm, (at,))


FULL_ENDS = (4000, 8000, 12_000, 16_000)  # ends of cycles, at which training may stop
ALL_FULL_ENDS = (*FULL_ENDS, 20_000)
QUICK_ENDS = (12_000, 16_000, 20_000, 24_000)
ALL_QUICK_ENDS = (4000, 8000, *QUICK_ENDS, 28_000)
_EXPLORATORY = "exploratory: chosen after three seeds"
_SEEN_THREE = "±1 was set after three seeds"
_EQUAL = "Equal within one point"

# Above all: does cycling save updates, and is it the cycles?
_HEADLINE = (
    Question(
        "headline", "In fewer updates, do cycles end as high as the long schedule?",
        "cycles at 32,000 − long schedule at 70,000, quick net",
        _headline("triangular", 32_000), _headline("fixed", 70_000),
        {"above": "Yes, and higher at 32,000", "equal": "Yes, equal within one point", "below": "No, lower at 32,000"},
    ),
    Question(
        "headline-line", "Is it the cycles? Against a line to zero",
        "line − cycles at 32,000, quick net",
        _headline("linear-32k", 32_000), _headline("triangular", 32_000),
        {"above": "No, the line finishes higher", "equal": _EQUAL, "below": "Yes, cycles finish higher"},
    ),
    Question(
        "headline-high", "Is it the cycles? Against step decay at their mean rate",
        "step decay − cycles at 32,000, quick net",
        _headline("fixed-32k", 32_000), _headline("triangular", 32_000),
        {"above": "No, step decay finishes higher", "equal": _EQUAL, "below": "Yes, cycles finish higher"},
    ),
)  # fmt: skip

_A = "With drops of the rate at the end, do cycles equal a line to zero?"
_A_ANSWERS = {"equal": "Yes, within one point", "above": "No, cycles finish higher", "below": "No, the line is higher"}
_A_DECAY = "With drops of the rate at the end, do cycles equal a constant rate before them?"
_A_DECAY_ANSWERS = {"equal": _EQUAL, "above": "No, cycles finish higher", "below": "No, the constant is higher"}
_B = "Is a high fixed rate with drops better than a low one?"
_C = "If training stops early, at a cycle's end, do cycles give a better net?"
_C_EARLIER = "If training stops early, at a cycle's end, do cycles reach an accuracy earlier?"
_C_ANSWERS = {"above": "Yes, at cycle ends", "equal": _EQUAL, "below": "No, worse at cycle ends"}
_C_EARLIER_ANSWERS = {"above": "Yes, earlier", "below": "No, later"}
_D = "Does triangular2 match the long schedule on the paper's net?"
_E = "Do the two meanings of exp_range differ?"
_F = "Does the step size matter, from one epoch to eight?"
_F_ANSWERS = {"equal": "No, equal within one point", "above": "Yes, it finishes higher", "below": "Yes, it is lower"}


def _earlier(key: str, what: str, first: Reading, second: Reading) -> tuple[Question, Question]:
    """Return question (c) of two arms, in points of accuracy and in updates."""
    saved = f"updates that cycles save: {what.replace(' − ', ' against ')}"
    return (
        Question(
            key, _C, f"{what}, mean over cycle ends", first, second, _C_ANSWERS, note=_EXPLORATORY, exploratory=True
        ),
        Question(
            f"{key}-updates",
            _C_EARLIER,
            saved,
            first,
            second,
            _C_EARLIER_ANSWERS,
            measure="updates",
            note=_EXPLORATORY,
            exploratory=True,
        ),
    )


# On the residual net: the paper's Table 4 in small, and rates that the range test chose.
_G = "On a residual net, do cycles with drops beat fixed rates with drops?"
_H = "On a residual net, do cycles finish above plain schedules?"
_H_ENDS = "On a residual net, do cycles give a better net at a cycle's end?"
_I = "Was the rate that the range test chose good?"
_FINISH = {"above": "Yes, cycles finish higher", "equal": _EQUAL, "below": "No, cycles finish lower"}
_FIXED_RATES = ("fixed-0.1", "fixed-0.2", "fixed-0.3")
_RIVALS = {"linear": "line", "one-cycle": "one cycle", "cosine": "cosine"}

_RESNET = (
    Question(
        "g", _G, "cycles − best of three fixed rates, all with drops, at 8,000, residual net",
        _resnet("triangular-drops"), Reading("resnet", "best of fixed", (8000,), _FIXED_RATES),
        {"above": "Yes, cycles finish higher", "equal": "No, equal within one point", "below": "No, fixed is higher"},
    ),
    *(
        Question(
            f"h-{arm}", _H, f"cycles − {words} at 8,000, residual net",
            _resnet("triangular"), _resnet(arm), _FINISH,
        )
        for arm, words in _RIVALS.items()
    ),
    *(
        Question(
            f"h-{arm}-end", _H_ENDS, f"cycles − {words} at 4,000, a cycle's end, residual net",
            _resnet("triangular", 4000), _resnet(arm, 4000), _C_ANSWERS,
        )
        for arm, words in ({"constant": "constant rate"} | _RIVALS).items()
    ),
    Question(
        "i-third", _I, "line from the proposed rate − from a third of it, at 8,000, residual net",
        _resnet("linear"), _resnet("linear-third"),
        {"above": "Yes, better than a third", "equal": _EQUAL, "below": "No, a third is better"},
    ),
    Question(
        "i-triple", _I, "line from the proposed rate − from three times it, at 8,000, residual net",
        _resnet("linear"), _resnet("linear-triple"),
        {"above": "Yes, better than three times", "equal": _EQUAL, "below": "No, three times is better"},
    ),
)  # fmt: skip

_PRECISION = tuple(
    Question(
        f"precision-{arm}", "Does accuracy differ in bfloat16?",
        f"bfloat16 − float32 at 20,000, {words}, quick net",
        Reading("precision", arm, (20_000,)), _headline(arm, 20_000),
        {"equal": "No, within one point", "above": "Yes, bfloat16 is higher", "below": "Yes, bfloat16 is lower"},
        asks_equality=True,
    )
    for arm, words in {"fixed": "step decay at a low rate", "triangular": "cycles"}.items()
)  # fmt: skip


QUESTIONS = (
    *_HEADLINE,
    Question(
        "a-quick", _A, "cycles with drops − line at 32,000, quick net",
        _headline("triangular-32k-drops", 32_000), _headline("linear-32k", 32_000), _A_ANSWERS, asks_equality=True,
    ),
    Question(
        "a-full", _A, "cycles with drops − line at 25,000, full net",
        _controls("triangular-25k-drops", 25_000), _controls("linear-25k", 25_000), _A_ANSWERS, asks_equality=True,
        note=_SEEN_THREE,
    ),
    Question(
        "a-quick-decay", _A_DECAY, "cycles with drops − step decay from their mean rate at 32,000, quick net",
        _headline("triangular-32k-drops", 32_000), _headline("fixed-32k", 32_000), _A_DECAY_ANSWERS,
        asks_equality=True, note="asked after five seeds",
    ),
    Question(
        "a-full-decay", _A_DECAY, "cycles with drops − step decay from their mean rate at 25,000, full net",
        _controls("triangular-25k-drops", 25_000), _controls("fixed-25k-high", 25_000), _A_DECAY_ANSWERS,
        asks_equality=True, note="asked after five seeds",
    ),
    Question(
        "b", _B, "0.003 − 0.001, both with drops, at 25,000, full net",
        _controls("fixed-25k-high", 25_000), _controls("fixed-25k", 25_000),
        {"above": "Yes, high finishes higher", "equal": _EQUAL, "below": "No, low finishes higher"},
    ),
    *_earlier(
        "c-quick-line", "cycles − line at 12,000 to 24,000, quick net",
        _headline("triangular", *QUICK_ENDS), _headline("linear-32k", *QUICK_ENDS),
    ),
    Question(
        "c-quick-line-all", _C, "cycles − line at 4,000 to 28,000, quick net, mean over all cycle ends before the last",
        _headline("triangular", *ALL_QUICK_ENDS), _headline("linear-32k", *ALL_QUICK_ENDS), _C_ANSWERS,
        note="asked after five seeds",
    ),
    Question(
        "c-full-line-all", _C, "cycles − line at 4,000 to 20,000, full net, mean over all cycle ends before the last",
        _controls("triangular-25k", *ALL_FULL_ENDS), _controls("linear-25k", *ALL_FULL_ENDS), _C_ANSWERS,
        note="asked after four seeds",
    ),
    Question(
        "c-quick-constant-all", _C,
        "cycles − constant mean rate at 4,000 to 24,000, quick net, mean over all cycle ends before it drops",
        _headline("triangular", *ALL_QUICK_ENDS[:-1]), _headline("fixed-32k", *ALL_QUICK_ENDS[:-1]), _C_ANSWERS,
        note="asked after five seeds",
    ),
    Question(
        "c-full-constant-all", _C,
        "cycles − constant mean rate at 4,000 to 16,000, full net, mean over all cycle ends before it drops",
        _controls("triangular-25k", *FULL_ENDS), _controls("fixed-25k-high", *FULL_ENDS), _C_ANSWERS,
        note="asked after five seeds",
    ),
    *_earlier(
        "c-quick-constant", "cycles − constant mean rate at 12,000 to 24,000, quick net",
        _headline("triangular", *QUICK_ENDS), _headline("fixed-32k", *QUICK_ENDS),
    ),
    *_earlier(
        "c-full-line", "cycles − line at 4,000 to 16,000, full net",
        _controls("triangular-25k-drops", *FULL_ENDS), _controls("linear-25k", *FULL_ENDS),
    ),
    *_earlier(
        "c-full-constant", "cycles − constant mean rate at 4,000 to 16,000, full net",
        _controls("triangular-25k-drops", *FULL_ENDS), _controls("fixed-25k-high", *FULL_ENDS),
    ),
    Question(
        "d", _D, "triangular2 at 25,000 − long schedule at 70,000, full net",
        _paper("triangular2", 25_000), _paper("fixed", 70_000),
        {"equal": "Yes, within one point", "above": "Yes, and finishes higher", "below": "No, it finishes lower"},
        asks_equality=True,
    ),
    Question(
        "e", _E, "both bounds decline − only the amplitude does, at 40,000, full net",
        _paper("exp_range-bounds", 40_000), _paper("exp_range-amplitude", 40_000),
        {"above": "Yes, the paper's wins", "equal": "No, within one point", "below": "Yes, the libraries' wins"},
        note="exploratory: asked after one seed", exploratory=True,
    ),
    Question(
        "f-short", _F, "one epoch − four epochs, at 24,000, quick net",
        Reading("step-size", "step-500", (24_000,)), _headline("triangular", 24_000), _F_ANSWERS, asks_equality=True,
    ),
    Question(
        "f-long", _F, "eight epochs − four epochs, at 24,000, quick net",
        Reading("step-size", "step-4000", (24_000,)), _headline("triangular", 24_000), _F_ANSWERS, asks_equality=True,
    ),
    *_RESNET,
    *_PRECISION,
)  # fmt: skip
