"""A range test as it is kept: as CSV and as JSON and back, and tables of several, one by one or refused."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from clr.range_test.record import RangeTest, as_range_tests, from_dict, to_dict


def frame(rates=(0.1, 0.2, 0.4), **columns):
    rows = {"iteration": range(len(rates) + 1), "lr": [np.nan, *rates], "metric": 0.5, "train_loss": 1 / 3}
    return pd.DataFrame(rows | columns)


FULL = RangeTest(
    frame(), "exponential", (0.25, 1.0), True, False, 7, True, "NA", 100, (0.5, 1 / 3, 1e-17), 0.7, True,
)  # fmt: skip


def same(one, other):
    """Return whether two tests are equal in all fields, to the last bit."""
    pd.testing.assert_frame_equal(one.frame, other.frame, check_exact=True)
    fields = [field.name for field in dataclasses.fields(RangeTest) if field.name != "frame"]
    return all(
        getattr(one, name) == getattr(other, name) and type(getattr(one, name)) is type(getattr(other, name))
        for name in fields
    )


def test_of_a_curve_alone_nothing_is_claimed():
    test = RangeTest(frame())
    assert (test.spacing, test.multipliers, test.diverged, test.held_out) == ("linear", (1.0,), False, True)
    assert (test.seed, test.bad_data, test.metric_name, test.examples) == (None, False, "metric", 0)
    assert (test.losses, test.constant_loss, test.one_class) == ((), None, False)


def test_two_tests_are_the_same_only_if_they_are_one_object():
    rows = frame()
    assert len({RangeTest(rows), RangeTest(rows)}) == 2 and RangeTest(rows) != RangeTest(rows)


def test_a_test_says_its_rates_and_how_it_ended():
    said = "RangeTest(lr=0.1 to 0.4, evaluations=3, metric='NA', seed=7, diverged=True)"
    assert repr(FULL) == said


@pytest.mark.parametrize("test", [FULL, RangeTest(frame())], ids=["full", "plain"])
def test_a_test_comes_back_from_a_file_and_from_json_to_the_last_bit(test, tmp_path):
    test.to_csv(tmp_path / "curve.csv")
    assert same(RangeTest.from_csv(tmp_path / "curve.csv"), test)
    assert same(from_dict(json.loads(json.dumps(to_dict(test)))), test)


def test_a_file_has_one_line_per_evaluation_and_the_losses_of_the_updates_before_it(tmp_path):
    FULL.to_csv(tmp_path / "curve.csv")
    table = pd.read_csv(tmp_path / "curve.csv", dtype=str, keep_default_na=False)
    assert (
        len(table) == 4 and "Unnamed: 0" not in table and table["losses"].tolist() == ["", "0.5", repr(1 / 3), "1e-17"]
    )
    assert set(table["multipliers"]) == {"0.25 1.0"} and table["lr"].tolist() == ["nan", "0.1", "0.2", "0.4"]
    RangeTest(frame()).to_csv(tmp_path / "plain.csv")
    assert not {"losses", "seed", "constant_loss"} & set(pd.read_csv(tmp_path / "plain.csv"))


def test_iterations_are_whole_numbers_and_need_not_be_there(tmp_path):
    FULL.to_csv(tmp_path / "curve.csv")
    assert RangeTest.from_csv(tmp_path / "curve.csv").frame["iteration"].dtype == "int64"
    pd.DataFrame({"lr": [0.1, 0.2], "metric": [0.5, 0.6]}).to_csv(tmp_path / "short.csv", index=False)
    assert list(RangeTest.from_csv(tmp_path / "short.csv").frame) == ["lr", "metric"]


def test_text_among_the_numbers_of_a_file_is_named(tmp_path):
    (tmp_path / "curve.csv").write_text("lr,metric\n0.1,0.5\n0.2,abc\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"path must hold numbers in the column 'metric', got .*'abc' in .*curve.csv"):
        RangeTest.from_csv(tmp_path / "curve.csv")


@pytest.mark.parametrize("column", ["lr", "metric"])
def test_a_file_without_rates_or_metric_is_named(tmp_path, column):
    frame().drop(columns=column).to_csv(tmp_path / "curve.csv", index=False)
    with pytest.raises(ValueError, match=f"curve.csv must have the column '{column}'"):
        RangeTest.from_csv(tmp_path / "curve.csv")


def test_a_file_of_two_curves_is_none_of_one(tmp_path):
    pd.concat([frame(seed=0), frame(seed=1)]).to_csv(tmp_path / "curves.csv", index=False, na_rep="nan")
    with pytest.raises(ValueError, match=r"path must hold one curve, got 2 in .*curves.csv"):
        RangeTest.from_csv(tmp_path / "curves.csv")


# What is taken for range tests.


def test_one_test_several_and_a_table_of_them_are_taken():
    other = RangeTest(frame())
    assert as_range_tests(other) == [other] and as_range_tests((other, other)) == [other, other]
    (one, two) = as_range_tests(pd.concat([FULL.table(), FULL.table().assign(seed=9)]))
    assert same(one, FULL) and same(two, dataclasses.replace(FULL, seed=9))


@pytest.mark.parametrize("tests", [3, "curve.csv", [3], [FULL, 3], iter([FULL]), {"a": FULL}])
def test_anything_else_is_refused(tests):
    with pytest.raises(TypeError, match="tests must be range tests or a DataFrame, got"):
        as_range_tests(tests)


@pytest.mark.parametrize("tests", [[], [FULL, RangeTest(frame(()))], frame(()), frame().iloc[:0]])
def test_a_curve_has_at_least_one_rate(tests):
    with pytest.raises(ValueError, match="tests must hold at least one curve with at least one rate, got none"):
        as_range_tests(tests)


@pytest.mark.parametrize(("rates", "words"), [((0.1, np.inf), "0.1 to inf"), ((-0.1, 0.2), "-0.1 to 0.2")])
def test_rates_are_finite_and_not_negative(rates, words):
    with pytest.raises(ValueError, match=re.escape(f"finite rates >= 0 in the column 'lr', got {words}")):
        as_range_tests([FULL, RangeTest(frame(rates))])
    assert len(as_range_tests([RangeTest(frame((0.0, 0.5)))])) == 1


def test_curves_share_one_spacing():
    with pytest.raises(ValueError, match="tests must share one spacing, got exponential and linear"):
        as_range_tests([FULL, RangeTest(frame())])


# Tables.


@pytest.mark.parametrize("column", ["lr", "metric"])
def test_a_table_needs_rates_and_a_metric_that_are_numbers(column):
    with pytest.raises(ValueError, match=rf"tests must have the column '{column}' \(rename yours\), got iteration, "):
        as_range_tests(frame().drop(columns=column))
    with pytest.raises(TypeError, match=f"tests must hold numbers in the column '{column}', got"):
        as_range_tests(frame().astype({column: str}))


def test_a_table_is_of_one_net_and_one_data_set():
    rows = frame((0.1, 0.2, 0.3, 0.4))
    for values, words in (("aabcd", "a, b, c: select"), (["a", None, "a", "a", "a"], "a, (None|nan): select")):
        with pytest.raises(ValueError, match=f"tests must be of one net and one data set, got net {words} the rows"):
            as_range_tests(rows.assign(net=list(values)))
    (test,) = as_range_tests(rows.assign(net="a", seconds=[1, 2, 3, 4, 5]))  # numbers may differ
    assert list(test.frame) == ["iteration", "lr", "metric", "train_loss"]


def test_curves_are_told_apart_by_their_seeds():
    with pytest.raises(ValueError, match="tests must have one row per rate in each curve: give curves a column 'seed'"):
        as_range_tests(pd.concat([frame(), frame()]))
    with pytest.raises(ValueError, match="tests must have one row per rate in each curve"):
        as_range_tests(pd.concat([frame(seed=0), frame(seed=1), frame(seed=1)]))
    tests = as_range_tests(pd.concat([frame(seed=2), frame(seed=np.nan), frame(seed=1)]))
    assert [test.seed for test in tests] == [1, 2, None]


def test_the_rows_of_a_table_may_come_in_any_order():
    rows = pd.concat([frame(seed=1), frame(seed=0)])[::-1]
    for test in as_range_tests(rows):
        assert test.frame["lr"].tolist()[1:] == [0.1, 0.2, 0.4] and np.isnan(test.frame["lr"][0])
        assert test.frame.index.tolist() == [0, 1, 2, 3]
    (test,) = as_range_tests(FULL.table()[::-1])
    assert test.losses == FULL.losses


def test_one_row_is_a_curve():
    (test,) = as_range_tests(pd.DataFrame({"lr": [0.1], "metric": [0.5], "held_out": ["False"], "diverged": ["True"]}))
    assert (test.held_out, test.diverged, test.spacing) == (False, True, "linear")


@pytest.mark.parametrize(
    ("rates", "spacing"),
    [
        ((0.1, 1.0, 10.0), "exponential"),
        ((1.0, 2.0, 3.0), "linear"),
        ((0.0, 0.1, 1.0, 10.0), "exponential"),  # a first rate of nought has no logarithm
        ((0.0, 0.1, 0.2, 0.3), "linear"),
        ((0.1, 10.0), "linear"),  # two rates show no spacing
        ((0.5, 0.5005, 0.501), "linear"),
        (tuple(np.geomspace(0.5, 0.502, 5)), "exponential"),
    ],
)
def test_a_tables_spacing_is_read_from_its_rates(rates, spacing):
    (test,) = as_range_tests(pd.DataFrame({"lr": rates, "metric": 0.5}))
    assert test.spacing == spacing


def test_the_spacing_of_a_curve_that_ended_early_is_that_of_the_others():
    rows = pd.DataFrame({"lr": (0.1, 1.0, 10.0, 0.1, 1.0), "metric": 0.5, "seed": (0, 0, 0, 1, 1)})
    assert [test.spacing for test in as_range_tests(rows)] == ["exponential", "exponential"]
