"""The README: its numbers are those of results/, and its sentences fit what they are made from."""

import json
import re
from pathlib import Path
from statistics import mean

import pytest
from cogapp import Cog

import clr
from tools import readme, results_page, sentences

ROOT = Path(__file__).parents[1]


def cells(table: str) -> list[list[str]]:
    """Return the rows of a markdown table, cell by cell."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


PAGES = ["README.md", "docs/choosing-rates.md"]  # those of the Makefile's target `readme`


def test_pages_hold_what_the_results_say(monkeypatch, capsys):
    monkeypatch.setenv("CLR_HOME", str(ROOT))
    monkeypatch.chdir(ROOT)
    status = Cog().main(["cog", "--check", "--diff", "-p", "from tools import readme, sentences", *PAGES])
    assert status == 0, f"run `make readme`\n{capsys.readouterr().out}"


def test_results_page_is_what_code_makes_of_the_results(monkeypatch):
    monkeypatch.setenv("CLR_HOME", str(ROOT))
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_page.page(), "run `make readme`"


def words(text: str) -> int:
    """Count the words of prose: no code, tables, comments, pictures or addresses."""
    for pattern in (r"```.*?```", r"<!--.*?-->", r"^\|.*$", r"!\[.*?\]\(.*?\)", r"(?<=\])\(.*?\)"):
        text = re.sub(pattern, "", text, flags=re.DOTALL | re.MULTILINE if "`" in pattern or "<" in pattern else re.M)
    return len(text.split())


def test_readme_is_short_and_its_first_command_comes_soon():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert words(text) < 900
    assert words(text[: text.index("```sh")]) <= 250


@pytest.mark.parametrize("name", ["paper", "running", "gpu", "choosing-rates"])
def test_a_page_of_docs_is_short(name):
    assert words((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")) < 600


def test_the_readmes_python_uses_public_names():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    compile(code, "README.md", "exec")
    assert set(re.findall(r"clr\.(\w+)", code)) <= set(clr.__all__)


def test_findings_and_the_picture_are_read_in_words(save):
    assert sentences.findings_list() == sentences.headline_picture() == "Nothing has been run at full length yet."
    assert sentences.cycle_ends_picture() == "No plain schedule has finished yet."
    for seed in range(3):
        save("headline", "fixed", seed, {70_000: 0.75 + seed / 1000})
        save("headline", "triangular", seed, {4000: 0.6, 32_000: 0.77 + seed / 900})
    picture = sentences.headline_picture()
    assert picture.startswith(
        "![Cycles reach the long schedule's 75.1% after 32,000 updates. Test accuracy against updates. "
    )
    assert "step decay, low rate 75.1% after 70,000; cycles 77.1% after 32,000](images/headline.png)" in picture
    assert "95% CI (n = 3)" in picture
    for seed in range(3):
        save("headline-controls", "linear-32k", seed, {4000: 0.5, 32_000: 0.79 + seed / 1000})
        save("headline-controls", "triangular-32k-drops", seed, {32_000: 0.81 + seed / 1000})
    assert sentences.findings_list() == (
        "- With drops of the rate at the end, cycles **finish above a line to zero**: "
        "quick net +2.0 points (+2.0 to +2.0, n = 3)."
    )
    assert sentences.cycle_ends_picture().startswith(
        "![Cycles lead a line to zero at 4,000 updates, trail it at 32,000. After 32,000 updates: a line to zero ends "
    )


def test_the_residual_nets_bullet_follows_its_verdicts(save):
    for seed in range(3):
        for arm, accuracy in {"linear": 0.80, "triangular": 0.78, "triangular-drops": 0.79}.items():
            save("resnet", arm, seed, {8000: accuracy + seed / 1e4})
    assert "residual" not in sentences.findings_list()
    for seed in range(3):
        for rate, accuracy in {"0.1": 0.78, "0.2": 0.7902, "0.3": 0.70}.items():
            save("resnet", f"fixed-{rate}", seed, {8000: accuracy - seed / 1e4})
    assert sentences.findings_list().startswith(
        "- On a small residual net, at rates that the range test proposed, **cycles finish below a line to zero**: "
        "-2.0 points (-2.0 to -2.0, n = 3). At the paper's rates and with drops **cycles equal the best of three fixed "
        "rates within one point**: "
    )
    assert (
        set(sentences.AGAINST_LINE)
        == set(sentences.AGAINST_FIXED)
        == set(sentences.EQUALS)
        == {"above", "below", "equal", "open"}
    )


def test_at_scale_is_the_finding_by_half_and_by_the_end():
    from tools import algoperf

    half, end = sentences.at_scale().split(" By the end")
    end, others = end.split(" Without variants of a workload: ")
    whole = algoperf.sentence(algoperf.read_summary())
    assert whole.startswith(half) and f"By the end{end}" in whole
    for part in others.rstrip(".").split(" and "):
        gain, interval = part.split(" (")
        words = f"{gain} of the target value (median, 95% CI {interval.replace(')', ' workloads)')}"
        assert words in whole.split("Without the variants")[1]


def test_the_printed_bounds_are_the_notebooks():
    text = sentences.printed_bounds()
    assert text.startswith("```text\nTrain with a peak rate of ") and "  one-cycle " in text
    assert max(map(len, text.splitlines())) <= 100 and text.endswith("iterations=...)\n```")


def test_regret_is_said_with_what_is_missed():
    rows = json.loads(sentences.REGRET.read_text(encoding="utf-8"))["finders"]
    ours = [row for row in rows if row["finder"] == "clr, five curves"]
    peers = {row["finder"] for row in rows if row["finder"].endswith("100 updates") and "clr" not in row["finder"]}
    best = min(mean(row["mean"] for row in rows if row["finder"] == peer) for peer in peers)
    worst = max(ours, key=lambda row: row["worst"])
    said = sentences.regret()
    assert (
        f"training at the proposed rate loses {mean(row['mean'] for row in ours):.1f}% of what the schedule's best"
        in said
    )
    assert re.search(rf"Found in 100, .* those of fastai's valley, the best other finder, {best:.1f}%\. At worst", said)
    cheap = max((row for row in rows if row["finder"] == "clr, 100 updates"), key=lambda row: row["worst"])
    lost = [f"{row['worst']:.0f}% (*{row['worst task']}*)" for row in (worst, cheap)]
    assert f"At worst clr's lose {lost[0]}; found in 100, {lost[1]}. The aim, at most 15%, is " in said
    assert said.endswith("missed." if worst["worst"] > 15 else "met.")
    average, other = (f"{value:.1f}%" for value in (mean(row["mean"] for row in ours), best))
    title = sentences.regret_picture()
    assert title.startswith(f"![On average clr's rates lose {average} of the gain (") and f"valley {other}. 16" in title


def test_the_examples_use_the_schedule_that_lost_least():
    lost = json.loads(sentences.REGRET.read_text(encoding="utf-8"))["against the best schedule"]
    best = min(lost, key=lambda schedule: lost[schedule]["mean"])
    for page in ("README.md", "docs/choosing-rates.md", "docs/integrations.md"):
        examples = re.findall(r'= bounds\.policy\("([a-z-]+)"', (ROOT / page).read_text(encoding="utf-8"))
        assert set(examples) == {best}
    assert f'Next: bounds.policy("{best}", iterations=...)' in sentences.printed_bounds()


def test_regret_says_missed_or_met_as_it_is(tmp_path, monkeypatch):
    found = json.loads(sentences.REGRET.read_text(encoding="utf-8"))
    for row in found["finders"]:
        row["worst"] = min(row["worst"], 12.0)
    monkeypatch.setattr(sentences, "REGRET", tmp_path / "regret.json")
    sentences.REGRET.write_text(json.dumps(found), encoding="utf-8")
    assert "The aim, at most 15%, is met." in sentences.regret()
    assert "at the proposed rate, loses of the best schedule's gain" in sentences.regret_schedules()


def test_tables_show_the_schedules_that_ran():
    assert cells(readme.fixed_schedule())[1] == ["60,000 to 65,000", "0.0001"]
    assert cells(readme.clr_schedule()) == [["Triangular", "0.0025", "0.01", "2,000", "35,000"]]


def test_third_table_has_a_row_for_each_point_that_was_reached(save):
    save("headline", "fixed", 0, {70_000: 0.75})
    save("headline", "triangular", 0, {20_000: 0.74})
    assert cells(readme.fixed_against_clr()) == [
        ["cifar10", "fixed", "70,000", "75.00% (n = 1)", "75.9%"],
        ["cifar10", "triangular", "20,000", "74.00% (n = 1)", "75.9%"],
    ]


def test_findings_link_to_the_runs_of_each_row(save):
    assert readme.findings() == "No question has an answer yet."
    for seed in range(3):
        save("controls", "fixed-25k-high", seed, {25_000: 0.72 + seed / 1000})
        save("controls", "fixed-25k", seed, {25_000: 0.70})
    (row,) = cells(readme.findings("../results"))
    assert row[1] == "Yes, high finishes higher" and row[3] == "+2.1 points (+1.9 to +2.3, n = 3)"
    assert row[4] == "[controls/fixed-25k-high](../results/cifar10/controls/fixed-25k-high)"


def test_at_scale_has_algoperfs_sentence_and_all_its_workloads():
    text = readme.at_scale()
    assert text.startswith(
        "By half of the budget, where only the rate of two cycles has come down, two cycles are ahead of one: "
    )
    assert len(cells(text[text.index("|") :])) == 14 + 1


def test_range_tests_say_which_rates_and_which_images(save):
    for arm in ("quick-unit", "quick-unit-held-out"):
        for seed in range(2):
            save("range-test", arm, seed, {k: min(0.6, 0.1 + k / 3000) for k in range(100, 4001, 100)})
    first, second, *_ = (row[:3] for row in cells(readme.range_tests().split("\n\n")[0]) if row[1] == "`cifar10`")
    assert first[2] == "0.0005 to 1, exponential, 4,000 updates, held-out images"
    assert second == ["quick-unit", "`cifar10`", "0.001 to 0.04, linear, 4,000 updates, test images"]
