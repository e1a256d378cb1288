"""The queue of full-length runs, the most telling first: what `python -m clr run --queue` trains."""

from dataclasses import dataclass

__all__ = ["QUEUE", "Row"]


@dataclass(frozen=True)
class Row:
    """Arms of an experiment (names or patterns), and how many seeds of each."""

    experiment: str
    arms: tuple[str, ...]
    seeds: int


QUEUE = (
    Row("headline", ("*",), 5),
    Row("headline-controls", ("fixed-32k", "linear-32k"), 5),
    Row("range-test", ("*-held-out",), 5),
    Row("headline-controls", ("triangular-32k-drops",), 5),
    Row("controls", ("fixed-25k-high",), 5),
    Row("controls", ("fixed-25k", "triangular-25k-drops", "linear-25k", "one-cycle-25k", "triangular-25k"), 5),
    Row("resnet", ("fixed-*", "triangular-drops", "constant", "triangular", "linear", "one-cycle", "cosine"), 3),
    Row("resnet", ("linear-third", "linear-triple"), 1),
    Row("paper-table-1", ("triangular2",), 5),
    Row("paper-table-1", ("fixed", "decay", "exp_range-*"), 3),
    Row("mults", ("*",), 1),
    Row("step-size", ("*",), 3),
    Row("adaptive", ("nesterov-*", "adam-*"), 1),
    Row("sigmoid-bn", ("*",), 1),
    Row("momentum-form", ("full-*",), 3),
    Row("adaptive", ("*",), 1),
    Row("precision", ("*",), 3),
    Row("resnet", ("fixed-*", "triangular-drops", "constant", "triangular", "linear", "one-cycle", "cosine"), 5),
)
