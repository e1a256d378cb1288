"""The AlgoPerf study: what its table says, its parser on invented logs, and its picture."""

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt

from tools import algoperf

SETTINGS = {"learning_rate": 0.1, "dropout_rate": 0.1}


@pytest.fixture(scope="module")
def summary():
    return algoperf.read_summary()


def write_run(clone, values, *, study=0, trial=1, cycles=1, workload="wmt", target=30.0, metric="bleu", **settings):
    """Write one invented run with a budget of 100 updates; `values` maps updates to validation values."""
    folder = clone / algoperf.LOGS / f"study_{study}" / f"{workload}_pytorch" / f"trial_{trial}"
    folder.mkdir(parents=True)
    (folder / "hparams.json").write_text(json.dumps(SETTINGS | settings | {"cycles": cycles}), encoding="utf-8")
    metadata = {"target_metric_name": metric, "step_hint": 100, "validation_target_value": target}
    metadata = {f"workload.{name}": value for name, value in metadata.items()} | {"rng_seed": trial}
    (folder / "meta_data_0.json").write_text(json.dumps(metadata), encoding="utf-8")
    frame = pd.DataFrame({"global_step": list(values), f"validation/{metric}": list(values.values())})
    frame.to_csv(folder / "eval_measurements.csv", index=False)


def write_pair(clone, one, two, **facts):
    write_run(clone, one, trial=1, cycles=1, **facts)
    write_run(clone, two, trial=2, cycles=2, **facts)


def rows(*pairs, target=30.0, better="higher"):
    """Return a summary of invented pairs, each (best by half, best by the end, first at target) of one and of two."""
    return pd.DataFrame([
        {"workload": f"w{i}", "study": 0, "cycles": cycles, "target": target, "better": better,
         "best_by_half": half, "best_by_step_hint": end, "first_step_at_target": first}
        for i, pair in enumerate(pairs) for cycles, (half, end, first) in zip((1, 2), pair, strict=True)
    ]).astype({"first_step_at_target": "Int64"})  # fmt: skip


def test_the_summary_holds_one_run_per_workload_study_and_number_of_cycles(summary):
    assert len(summary) == 140
    runs = summary.groupby("workload")[["study", "cycles"]].apply(lambda found: sorted(map(tuple, found.to_numpy())))
    assert (runs.map(lambda found: found == [(study, n) for study in range(5) for n in (1, 2)])).all()
    assert set(summary["workload"]) == set(algoperf.LABELS)
    assert list(summary["metric"].isin(algoperf.LOWER)) == list(summary["better"] == "lower")


def test_its_budgets_are_the_schedules_and_not_the_scoring_constants(summary):
    budgets = summary.groupby("workload")["step_hint"].unique().map(list)
    assert budgets["fastmri"] == [36_189] and budgets["ogbg"] == [80_000] and budgets["wmt"] == [133_333]
    assert budgets["imagenet_resnet"] == budgets["imagenet_vit"] == [186_666]
    assert budgets.map(len).eq(1).all()


def test_a_pair_never_shares_a_seed(summary):
    assert summary.groupby(["workload", "study"])["rng_seed"].nunique().eq(2).all()


def test_time_limits_end_runs_at_90_percent_or_later(summary):
    unstopped = summary[summary["first_step_at_target"].isna()]
    share = unstopped["last_step"] / unstopped["step_hint"]
    assert 0.9 < share.min() < 0.91
    assert set(unstopped.loc[share > 1.02, "workload"]) == {"imagenet_resnet", "imagenet_resnet_large_bn_init"}
    assert share.max() == pytest.approx(1.59, abs=0.005)


def test_best_values_and_first_steps_agree_on_who_reached_the_target(summary):
    sign = summary["better"].map({"higher": 1, "lower": -1})
    reached = sign * (summary["best_by_step_hint"] - summary["target"]) >= 0
    assert list(reached) == list(summary["first_step_at_target"].notna())


def test_two_cycles_lead_by_half_and_one_cycle_by_the_end(summary):
    total = algoperf.table(summary).set_index("workload").loc["all"].to_dict()
    assert total == {
        "pairs": 70,
        "by half: two cycles ahead": 51, "by half: one cycle ahead": 6, "by half: both at target": 13,
        "by the end: two cycles ahead": 2, "by the end: one cycle ahead": 40, "by the end: both at target": 28,
        "target: both reach it": 28, "target: two cycles first": 19,
        "target: one cycle alone": 18, "target: two cycles alone": 1,
    }  # fmt: skip


def test_the_table_accounts_for_every_pair_of_every_workload(summary):
    table = algoperf.table(summary)
    for label in ("by half: ", "by the end: "):
        assert (table.filter(like=label).sum(axis=1) == table["pairs"]).all()
    assert list(table["pairs"]) == [5] * 14 + [70]


def test_effects_are_means_over_decided_pairs_with_their_interval(summary):
    effects = algoperf.effects(summary).set_index(["workload", "by"])
    vit = effects.loc[("imagenet_vit", "end")]
    runs = summary[summary["workload"] == "imagenet_vit"].pivot(index="study", columns="cycles")["best_by_step_hint"]
    gains = (runs[2] - runs[1]) / 0.77309 * 100
    assert vit["gain"] == pytest.approx(gains.mean())
    half_width = 2.776445 * gains.sem()  # Student's t, 4 degrees of freedom
    assert (vit["low"], vit["high"]) == pytest.approx((gains.mean() - half_width, gains.mean() + half_width))
    assert effects.loc[("criteo1tb", "end"), "n"] == 2 and np.isnan(effects.loc[("criteo1tb", "end"), "low"])
    assert effects.loc[("ogbg", "half"), "n"] == 0 and np.isnan(effects.loc[("ogbg", "half"), "gain"])


def test_the_sentence_states_both_sides_with_their_intervals(summary):
    text = algoperf.sentence(summary)
    assert (
        "rate of two cycles has come down, two cycles are ahead of one: +6.6% of the target value (median, 95% CI "
        in text
    )
    assert "By the end, two cycles are behind one: -0.6% of the target value (median, 95% CI " in text
    assert "They are ahead in 51 of 57 decided pairs." in text and "They are ahead in 2 of 42 decided pairs." in text
    assert "first in 19 of them (no clear difference: two cycles lead on 4 of 8 workloads, 95% CI " in text


def test_without_the_variants_the_lead_by_half_is_not_clear(summary):
    text = algoperf.sentence(summary)
    assert "Without the variants, by half: +9.4% of the target value (median, 95% CI -0.0% to +23.7%, n = 7" in text
    assert "by the end: -0.4% of the target value (median, 95% CI -8.5% to -0.1%, n = 7" in text
    assert set(algoperf.VARIANTS) < set(summary["workload"]) and len(algoperf.VARIANTS) == 6


def test_the_sentence_claims_nothing_when_the_intervals_include_zero():
    even = [[(20, 21, None), (22, 23, None)], [(22, 23, None), (20, 21, None)]] * 4
    text = algoperf.sentence(rows(*even))
    assert text.count("not clearly apart from one: +0.0% of the target value") == 2
    assert "In 0 of 8 pairs only one run reaches the target." in text and text.count("no workload decides") == 2


@pytest.mark.parametrize(
    ("one", "two", "half", "end", "alone", "first"),
    [
        ((20, 25, None), (22, 24, None), 1, -1, np.nan, np.nan),
        ((20, 31, 90), (22, 24, None), 1, -1, -1, np.nan),
        ((20, 24, None), (31, 31, 40), 1, 1, 1, np.nan),
        ((20, 32, 90), (31, 31, 40), 1, np.nan, np.nan, 1),
        ((30, 30, 30), (32, 32, 40), np.nan, np.nan, np.nan, -1),
    ],
)
def test_a_pair_is_undecided_once_both_have_reached_the_target(one, two, half, end, alone, first):
    found = algoperf.outcomes(rows((one, two)))[["half", "end", "alone", "first"]].iloc[0]
    assert found.to_list() == pytest.approx([half, end, alone, first], nan_ok=True)


def test_lower_is_better_for_a_loss():
    losses = rows(((3.0, 2.5, None), (2.6, 2.6, None)), target=2.0, better="lower")
    found = algoperf.outcomes(losses).iloc[0]
    assert (found["half"], found["end"]) == (1, -1)
    assert found["half_gain"] == pytest.approx(20) and found["end_gain"] == pytest.approx(-5)


def test_the_parser_reads_the_pair_that_differs_only_in_cycles(tmp_path):
    one = {1: 0.0, 40: 20.0, 51: 21.0, 52: 28.0, 99: 29.0, 110: 30.5}
    write_run(tmp_path, one, trial=3)
    write_run(tmp_path, {1: 0.0, 49: 27.0, 60: 15.0, 102: 28.5, 103: 29.5}, trial=5, cycles=2)
    write_run(tmp_path, one, trial=1, dropout_rate=0.0)
    write_run(tmp_path, one, trial=4, cycles=2, learning_rate=0.2)
    found = algoperf.summarise(algoperf.read_logs(tmp_path))
    assert list(found["cycles"]) == [1, 2] and list(found["rng_seed"]) == [3, 5]
    assert list(found["best_by_half"]) == [21, 27]
    assert list(found["best_by_step_hint"]) == [29, 28.5] and list(found["last_by_step_hint"]) == [29, 28.5]
    assert list(found["last_step"]) == [110, 103] and list(found["evaluations"]) == [6, 5]
    assert found["first_step_at_target"].iloc[0] == 110 and found["first_step_at_target"].isna().iloc[1]


def test_the_command_writes_a_file_that_reads_back_equal(tmp_path, capsys):
    for study in range(3):
        write_pair(tmp_path, {1: 1.0, 99: 2.0 + study}, {1: 1.0, 99: 2.5}, study=study)
        write_pair(tmp_path, {1: 9.0}, {1: 8.0, 99: 7.0}, study=study, workload="ogbg", metric="loss", target=1.0)
    path = tmp_path / "new" / "summary.csv"
    algoperf.main([str(tmp_path), "--out", str(path)])
    pd.testing.assert_frame_equal(algoperf.read_summary(path), algoperf.summarise(algoperf.read_logs(tmp_path)))
    assert "By the end, two cycles are not clearly apart from one" in capsys.readouterr().out


def test_a_folder_without_the_logs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clone must hold study_\*/ in previous_leaderboards/.*, got"):
        algoperf.read_logs(tmp_path)


def test_a_workload_without_a_pair_is_named(tmp_path):
    write_run(tmp_path, {1: 1.0}, trial=1, cycles=1)
    write_run(tmp_path, {1: 1.0}, trial=2, cycles=2, dropout_rate=0.0)
    with pytest.raises(ValueError, match=r"study_0/wmt_pytorch must have one pair of 1 and 2 cycles, got 0"):
        algoperf.read_logs(tmp_path)


def test_a_workload_with_two_targets_is_named(tmp_path):
    write_pair(tmp_path, {1: 1.0}, {1: 1.0})
    write_pair(tmp_path, {1: 1.0}, {1: 1.0}, study=1, target=31.0)
    with pytest.raises(ValueError, match="must have one step_hint, target and metric, got several of wmt"):
        algoperf.read_logs(tmp_path)


def test_a_metric_of_unknown_direction_is_refused(tmp_path):
    write_pair(tmp_path, {1: 1.0}, {1: 1.0}, metric="perplexity")
    with pytest.raises(ValueError, match=r"metric must be one of accuracy, .*, wer, got perplexity"):
        algoperf.summarise(algoperf.read_logs(tmp_path))


def test_a_run_without_a_validation_in_its_first_half_is_named(tmp_path):
    write_pair(tmp_path, {1: 1.0}, {60: 1.0})
    with pytest.raises(
        ValueError, match=r"must have a validation in its first half, got none in workload wmt, study 0, cycles 2"
    ):
        algoperf.summarise(algoperf.read_logs(tmp_path))


def test_a_study_without_its_second_run_is_refused(summary):
    with pytest.raises(ValueError, match=r"one run with 1 cycle and one with 2, got others in criteo1tb, 0"):
        algoperf.outcomes(summary.iloc[1:])


def test_the_picture_draws_every_effect_and_its_title_is_the_finding(summary):
    fig, ax = plt.subplots()
    assert algoperf.draw(ax, summary) is ax
    assert ax.get_title(loc="left") == "By half of the budget two cycles lead,\nby its end one cycle leads"
    effects = algoperf.effects(summary)
    for marker, name in (("o", "half"), ("D", "end")):
        drawn = sorted(line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == marker)
        assert drawn == pytest.approx(sorted(effects.loc[effects["by"] == name, "gain"].dropna()))
    assert {label.get_text() for label in ax.get_yticklabels()} == set(algoperf.LABELS.values())
    assert sum("both at target" in text.get_text() for text in ax.texts) == (effects["n"] == 0).sum()
    assert ax.get_legend() is None
    plt.close(fig)


def test_the_picture_is_hollow_where_the_interval_includes_zero(summary):
    fig, ax = plt.subplots()
    algoperf.draw(ax, summary)
    effects = algoperf.effects(summary)
    unclear = ~((effects["low"] > 0) | (effects["high"] < 0)) & (effects["n"] > 0)
    hollow = [line.get_xdata()[0] for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert sorted(hollow) == pytest.approx(sorted(effects.loc[unclear, "gain"]))
    plt.close(fig)


def test_the_picture_wants_axes(summary):
    with pytest.raises(TypeError, match="ax must be matplotlib axes, got None"):
        algoperf.draw(None, summary)
