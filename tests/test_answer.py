"""The answer: its bold words and sentences follow the verdicts of invented runs."""

import re

import pytest

from tools import answer as module
from tools.answer import answer

ENDS = range(4000, 32_001, 4000)


def save_headline(save, cycles, line, seeds=3, fixed=0.75):
    """Save both arms of the headline and the line: accuracies at 32,000 updates, 0.6 before."""
    for seed in range(seeds):
        save("headline", "fixed", seed, {70_000: fixed + seed / 1e4})
        save("headline", "triangular", seed, dict.fromkeys(ENDS, 0.6) | {32_000: cycles + seed / 1e4})
        save("headline-controls", "linear-32k", seed, dict.fromkeys(ENDS, 0.6) | {32_000: line + seed / 2e4})


def test_answer_before_anything_has_run():
    assert answer() == "Nothing has been run at full length yet."


@pytest.mark.parametrize(
    ("cycles", "line", "bold"),
    [
        (0.76, 0.78, ("yes", "no")),
        (0.78, 0.76, ("yes", "yes")),
        (0.70, 0.78, ("no", "no")),
        (0.7500, 0.78, ("partly", "no")),
    ],
)
def test_bold_words_follow_the_runs(save, cycles, line, bold):
    save_headline(save, cycles, line)
    assert re.findall(r"\*\*(?:Fewer updates|Because it cycles): (\w+)", answer()) == list(bold)


def test_an_interval_that_includes_zero_leaves_the_cause_open(save):
    for seed, line in enumerate((0.74, 0.76, 0.78)):
        save("headline", "fixed", seed, {70_000: 0.75})
        save("headline", "triangular", seed, {32_000: 0.76})
        save("headline-controls", "linear-32k", seed, {32_000: line})
    assert "Because it cycles: open.**" in answer()
    assert "The line shows no clear difference from the cycles: +0.0 points (95% CI " in answer()


def test_fewer_than_three_seeds_are_preliminary(save):
    save_headline(save, 0.76, 0.78, seeds=1)
    assert answer().startswith("- Preliminary (n = 1).\n- **Fewer updates: yes, on the quick net.** ")
    assert "\n- **Because it cycles: open.** " in answer()
    assert "shows no clear difference from the cycles: +2.0 points (n = 1)." in answer()


def test_step_decay_from_the_cycles_mean_rate_is_compared_once_it_has_run(save):
    save_headline(save, 0.76, 0.78)
    assert "step decay from" not in answer()
    for seed in range(3):
        save("headline-controls", "fixed-32k", seed, {31_000: 0.9, 32_000: 0.77 + seed / 1e4})
    assert ", step decay from their mean rate, which drops at 27,500, after 32,000 (n = 3).\n" in answer()
    assert "Step decay from their mean rate finishes above them: +1.0 points (+1.0 to +1.0, n = 3)." in answer()


def test_sentences_say_when_and_on_what(save):
    save_headline(save, 0.76, 0.78)
    text = answer()
    assert (
        "Caffe's long schedule (step decay, 70,000 updates from an untuned 0.001) ends at 75.0%. Read every 4,000 "
        "updates, at cycle ends, cycles between 0.0025 and 0.01 first reach that after 32,000, a line from 0.01 to "
        "zero after 32,000 (n = 3).\n" in text
    )
    assert "finishes above the cycles: +2.0 points (95% CI +2.0 to +2.0, n = 3)." in text
    assert (
        "\n- **If training stops at an earlier cycle's end: little difference** (table).\n- Data: CIFAR-10.\n" in text
    )
    assert text.splitlines()[-1].split("|")[2].strip() == "+0.0 points (+0.0 to +0.0, n = 3)"
    assert "from their mean rate" not in text
    assert (
        set(module.LINE_FINISHES)
        == set(module.STEP_DECAY_FINISHES)
        == set(module.STOPPED_EARLY)
        == {"above", "below", "equal", "open"}
    )


def test_the_lesson_is_given_where_the_line_ends_higher_and_cycles_cost_nothing_before(save):
    save_headline(save, 0.76, 0.78)
    assert "In short" not in answer()
    for seed in range(3):
        save("headline", "triangular", seed, dict.fromkeys(ENDS, 0.7) | {32_000: 0.76 + seed / 1e4})
    assert answer().startswith("- **In short.** Know when training ends? ")
    for seed in range(3):
        save("controls", "triangular-25k", seed, dict.fromkeys(ENDS[:6], 0.6) | {25_000: 0.7})
        save("controls", "linear-25k", seed, dict.fromkeys(ENDS[:5], 0.6) | {25_000: 0.7})
    assert "In short" in answer() and "cycle's end: cycles help, or are within one point on average** " in answer()
    for seed in range(3):
        save("controls", "linear-25k", seed, dict.fromkeys(ENDS[:5], 0.8) | {25_000: 0.7})
    assert "In short" not in answer() and "cycle's end: it depends** (table)" in answer()
    assert "| -20.0 points (-20.0 to -20.0, n = 3) |" in answer()


def test_cycles_are_compared_with_a_constant_rate_too(save):
    save_headline(save, 0.76, 0.78)
    for seed in range(3):
        save("headline-controls", "fixed-32k", seed, dict.fromkeys(ENDS, 0.55) | {32_000: 0.77})
    rival, difference = (cell.strip() for cell in answer().splitlines()[-2].split("|")[1:3])
    assert (rival, difference) == ("a constant rate at their mean", "+5.0 points (+5.0 to +5.0, n = 3)")
