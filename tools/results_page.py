"""docs/results.md, whole: every table and verdict, made from the results on disk.

    python -m tools.results_page

writes the page, and a test compares it with what this returns.
"""

from collections.abc import Callable

from clr import paths
from clr.experiments import EXPERIMENTS, tables
from clr.experiments.findings import unanswered
from clr.experiments.study import Study
from tools import readme

__all__ = ["page", "write"]

TOP = """# Results

`python -m tools.results_page` makes this page from [results/](../results) and a test compares the two. Nothing here is
typed. Each number is a mean over seeds; in parentheses stand its 95% interval and n. Means of one or two runs carry no
interval of their own; one marked "pooled" takes the spread of all arms of the same net.
"Within one point": the 90% interval lies within ±1. "Asked after n seeds": the question came after those runs.
"Exploratory": so did the choice of what to compare.
`cifar10-jpeg` is a JPEG copy of CIFAR-10. Accuracies are read on the test images.

The CSV of each run lies in `results/<data set>/<experiment>/<arm>/`, and beside it a JSON with its settings, the data's
fingerprint, hardware, versions and commit. Pictures of most of this: [Figures](../notebooks/Figures.ipynb)."""

HEADLINE = """Caffe's quick net, pixels of 0 to 1 minus the channel means, torch's initial weights, batches of 100 in a
new order every epoch, momentum 0.9 and weight decay 0.004 on every parameter. The long schedule:

{fixed}

The cycles:

{cycles}

Both, beside what [the earlier port](https://github.com/coxy1989/clr) left in its files, on the original images with a
net of smaller maps:

{table}

Plain schedules on the same net, images and seeds:

{controls}"""

TABLE_4 = """ The paper's Table 4 has deeper nets, trained about ten times as long on original
images, flipped and shifted. Ours are JPEG copies, neither flipped nor shifted, so the differences below say little:
compare the arms with each other."""

AT_SCALE = """Public AlgoPerf logs, made by others: the same net, trained in one cycle and in two, on 14 workloads.
How they were read: [results/algoperf](../results/algoperf/README.md).

{at_scale}"""


def page() -> str:
    """Return the page."""
    sections: dict[str, Callable[[], str]] = {
        "Findings": _findings,
        "Fewer updates?": _headline,
        "The range tests": readme.range_tests,
        "The paper's Table 1": readme.paper_table_1,
        "Controls on the paper's net": readme.controls,
        "The prototxt's multipliers": lambda: _table("mults"),
        "Initial weights and pixels": lambda: _table("init"),
        "A residual net, at rates that a range test proposed": lambda: _table("resnet", TABLE_4),
        "One cycle or two, at scale": lambda: AT_SCALE.format(at_scale=readme.at_scale()),
        "Not run yet": _missing,
    }
    made = {title: make().strip() for title, make in sections.items()}
    parts = [TOP, *(f"## {title}\n\n{text}" for title, text in made.items() if text)]
    return "\n\n".join(parts) + "\n"


def _findings() -> str:
    """Return the table of findings, and below it the questions that have no runs yet."""
    asked: dict[str, list[str]] = {}
    for question in unanswered():
        asked.setdefault(question.text, []).append(question.what)
    bullets = [f"- {text} {'; '.join(whats)}." for text, whats in asked.items()]
    waiting = ["Asked, and without a pair of runs so far (n = 0):", "\n".join(bullets)] if asked else []
    return "\n\n".join([readme.findings("../results"), *waiting])


def _headline() -> str:
    return HEADLINE.format(
        fixed=readme.fixed_schedule(),
        cycles=readme.clr_schedule(),
        table=readme.fixed_against_clr(),
        controls=readme.headline_controls(),
    )


def _table(name: str, note: str = "") -> str:
    """Return an experiment's question, a note and its table; nothing before it has runs."""
    table = tables.experiment_table(name)
    text = f"{EXPERIMENTS[name].question}{note}\n\n{table.to_markdown(index=False, disable_numparse=True)}"
    return "" if table.empty else text


def _missing() -> str:
    """Return in one line which experiments lack runs, and how to train them."""
    study = Study()
    lacking = [name for name in EXPERIMENTS if set(EXPERIMENTS[name].arms) - set(study.runs(name)["arm"])]
    if not lacking:
        return "Every arm has finished at least once."
    return f"Some arms of these lack any run: {', '.join(lacking)}. `python -m clr run NAME` trains what is missing."


def write() -> None:
    """Write docs/results.md."""
    path = paths.home() / "docs" / "results.md"
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
