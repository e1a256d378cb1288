"""Results: what is written is what is read, damage is said, and the statistics are scipy's."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clr import experiments, paths, results
from clr.results import COLUMNS, ResultError
from clr.training import RunConfig

RECORD = {"config": {"seed": 0, "iterations": 2, "policy": {"lr": 0.1}}, "data": {"name": "toy"}, "diverged": False}
ROWS = [
    {"iteration": 1, "lr": 0.1, "train_loss": 1 / 3, "test_loss": 2.5, "test_accuracy": 0.1},
    {"iteration": 2, "lr": 1e-17, "train_loss": 0.25, "test_loss": float("nan"), "test_accuracy": 0.3},
]


@pytest.fixture
def folder(tmp_path):
    results.save(tmp_path / "toy" / "trial" / "fixed", 0, ROWS, RECORD)
    return tmp_path / "toy" / "trial" / "fixed"


def frame(accuracies: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Make runs of {arm: [a seed's accuracies at 10, 20, ...]}."""
    rows = [
        {
            "dataset": "toy",
            "experiment": "trial",
            "arm": arm,
            "seed": seed,
            "iteration": 10 * i + 10,
            "train_loss": 1.0,
            "test_loss": 1.0,
            "test_accuracy": a,
        }
        for arm, seeds in accuracies.items()
        for seed, curve in enumerate(seeds)
        for i, a in enumerate(curve)
    ]
    return pd.DataFrame(rows)


def test_what_is_read_is_what_was_written(folder):
    rows, record = results.load(folder, 0)
    pd.testing.assert_frame_equal(rows, pd.DataFrame(ROWS), check_exact=True)
    assert record["config"] == RECORD["config"]
    tidy = results.read(folder.parents[2])
    assert tidy.loc[0, ["dataset", "experiment", "arm", "seed"]].tolist() == ["toy", "trial", "fixed", 0]
    assert results.records(folder.parents[2]).loc[0, "config.iterations"] == 2


def test_nothing_but_the_two_files_is_left(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0.csv", "seed-0.json"]


def test_a_run_without_record_has_not_finished(folder):
    assert results.load(folder, 1) is None
    (folder / "seed-0.json").unlink()
    assert results.load(folder, 0) is None
    assert results.read(folder.parents[2]).empty


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda csv, record: csv.write_text(csv.read_text(encoding="utf-8").replace("0.3", "0.9"), encoding="utf-8"),
            r"seed-0.csv was changed after",
        ),
        (lambda csv, record: csv.write_bytes(csv.read_bytes()[:-9]), r"seed-0.csv was changed after"),
        (lambda csv, record: csv.unlink(), "seed-0.csv is missing"),
        (
            lambda csv, record: record.write_text(record.read_text(encoding="utf-8")[:50], encoding="utf-8"),
            r"seed-0.json is damaged",
        ),
        (
            lambda csv, record: record.write_text(json.dumps({"format": 99}), encoding="utf-8"),
            "must have format 1, got 99",
        ),
    ],
)
def test_damage_is_said_and_nothing_overwritten(folder, damage, message):
    damage(folder / "seed-0.csv", folder / "seed-0.json")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ResultError, match=message):
        results.load(folder, 0)
    with pytest.raises(ResultError, match=message):
        results.read(folder.parents[2])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_interval_is_scipys_t_interval():
    values = [0.74, 0.75, 0.77, 0.71, 0.76]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert results.interval(values) == pytest.approx((low, high), rel=1e-12)
    assert np.isnan(results.interval([0.7])).all()


def test_summary_looks_at_the_end_or_where_it_is_told():
    runs = frame({"a": [[0.1, 0.5], [0.2, 0.7]], "b": [[0.3, 0.4, 0.9]]})
    end = results.summarise(runs).set_index("arm")
    assert end["accuracy"].tolist() == pytest.approx([0.6, 0.9])
    assert end["iterations"].tolist() == [20, 30]
    assert end["n"].tolist() == [2, 1]
    assert np.isnan(end.loc["b", "low"])
    assert results.summarise(runs, 10)["accuracy"].tolist() == pytest.approx([0.15, 0.3])


def test_the_last_rows_of_frames_put_together_are_those_of_each():
    first, second = frame({"a": [[0.1, 0.2], [0.3, 0.4]]}), frame({"b": [[0.5, 0.6, 0.7]]})
    together = pd.concat([first, second])  # with labels that occur twice
    assert results.rows_at(together)["test_accuracy"].tolist() == [0.2, 0.4, 0.7]
    assert results.summarise(together)["n"].tolist() == [2, 1]


def test_a_data_set_may_be_called_like_a_pattern(tmp_path):
    for name in ("toy[1]", "toy1"):
        results.save(tmp_path / name / "trial" / "fixed", 0, ROWS, RECORD | {"data": {"name": name}})
    assert results.read(tmp_path, "toy[1]")["dataset"].tolist() == ["toy[1]", "toy[1]"]


def test_an_error_in_writing_names_the_file_and_not_its_temporary_name(tmp_path):
    (tmp_path / "file").write_text("old", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="another"), paths.atomic_write(tmp_path / "file"):
        (tmp_path / "another").read_text(encoding="utf-8")
    with pytest.raises(FileNotFoundError) as caught, paths.atomic_write(tmp_path / "file") as part:
        part.read_text(encoding="utf-8")  # not written
    assert caught.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_comparison_is_scipys_paired_one():
    runs = frame({"a": [[0.5], [0.7], [0.9]], "b": [[0.4], [0.65], [0.7]], "c": [[0.1]]})
    a, b, c = (runs[runs["arm"] == arm] for arm in "abc")
    got = results.paired_difference(a, b)
    expected = stats.ttest_rel(a["test_accuracy"], b["test_accuracy"]).confidence_interval()
    assert (got["low"], got["high"], got["n"]) == (
        pytest.approx(100 * expected.low),
        pytest.approx(100 * expected.high),
        3,
    )
    assert results.paired_difference(a, c)["n"] == 1


def test_records_of_unlike_nesting_stand_in_one_frame(folder):
    stages = {"policy": "Stages", "stages": [[0, {"policy": "Fixed", "lr": 0.1}]]}
    results.save(folder, 1, ROWS, RECORD | {"config": {"seed": 1, "policy": stages}})
    table = results.records(folder.parents[2])
    assert table["seed"].tolist() == [0, 1]
    assert table.loc[1, "config.policy.stages"] == stages["stages"] and np.isnan(table.loc[1, "config.policy.lr"])


def test_a_run_has_diverged_when_a_loss_of_its_last_row_is_not_finite():
    rows = pd.DataFrame({"train_loss": [1.0, np.inf, 1.0], "test_loss": [1.0, 1.0, np.nan]})
    assert results.has_diverged(rows).tolist() == [False, True, True]
    assert not results.has_diverged(rows.iloc[0]) and results.has_diverged(rows.iloc[1])


def test_iterations_to_accuracy_are_those_of_the_first_row_that_reaches_it():
    runs = frame({"a": [[0.1, 0.6, 0.4, 0.7], [0.1, 0.1, 0.1, 0.1]]})
    assert results.iterations_to_accuracy(runs, 0.6)["iteration"].tolist()[0] == 20
    assert np.isnan(results.iterations_to_accuracy(runs, 0.6)["iteration"].tolist()[1])


# Any rows and any record.


row = st.fixed_dictionaries({"iteration": st.integers(1, 10**12), **{name: st.floats() for name in COLUMNS[1:]}})
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@settings(max_examples=30, deadline=None)
@given(st.lists(row, min_size=1), st.dictionaries(st.text(), plain))
def test_any_rows_and_record_come_back_to_the_last_bit(rows, config):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results.save(folder, 0, rows, {"config": config, "data": {}})
        frame, record = results.load(folder, 0)
        assert record["config"] == config
        assert frame["iteration"].tolist() == [row["iteration"] for row in rows]
        for column in COLUMNS[1:]:
            written, read = np.array([row[column] for row in rows]), frame[column].to_numpy()
            assert np.array_equal(read, written, equal_nan=True)
            assert np.array_equal(np.signbit(read), np.signbit(written) & ~np.isnan(written))
        results.save(folder, 1, frame.to_dict("records"), record)
        assert (folder / "seed-1.csv").read_bytes() == (folder / "seed-0.csv").read_bytes()


def test_rows_of_several_arms_or_iterations_are_no_pairs():
    frame = pd.DataFrame({"dataset": "cifar10", "seed": [0, 0, 1, 1], "test_accuracy": [0.1, 0.2, 0.3, 0.4]})
    one_each = frame.drop_duplicates("seed")
    with pytest.raises(ValueError, match=r"second must have one row per seed and data set, .*, got 2"):
        results.paired_difference(one_each, frame)


def test_a_run_that_diverged_is_counted_also_where_it_has_no_row():
    frame = pd.DataFrame(
        [
            ["cifar10", "e", "a", seed, iteration, 0.1, loss, loss, accuracy]
            for seed, rows in enumerate(([(5, 1.0, 0.4), (10, 1.0, 0.5)], [(5, np.nan, 0.1)]))
            for iteration, loss, accuracy in rows
        ],
        columns=[*results.KEYS, *results.COLUMNS],
    )
    (late,) = results.summarise(frame, 10).to_dict("records")
    assert (late["n"], late["diverged"], late["accuracy"]) == (1, 1, 0.5)
    assert results.summarise(frame)[["n", "diverged"]].to_numpy().tolist() == [[2, 1]]


def committed():
    return sorted((Path(__file__).parents[1] / "results").glob("*/*/*/seed-*.json"))


@pytest.mark.parametrize("path", committed(), ids=lambda path: "-".join((*path.parts[-4:-1], path.stem)))
def test_a_committed_result_is_the_run_that_the_catalogue_names(path):
    experiment, arm, seed = path.parts[-3], path.parts[-2], int(path.stem.removeprefix("seed-"))
    record = json.loads(path.read_text(encoding="utf-8"))
    assert RunConfig.from_dict(record["config"]) == experiments.configs(experiment)[arm, seed]
    first = json.loads(
        next(other for other in committed() if other.parts[-4] == path.parts[-4]).read_text(encoding="utf-8")
    )
    assert record["data"] == first["data"]  # one fingerprint a data set


@pytest.mark.parametrize("name", ["config", "data", "provenance", "sha256"])
@pytest.mark.parametrize("value", [None, [], 3])
def test_a_record_whose_parts_are_of_another_kind_is_damaged(folder, name, value):
    path = folder / "seed-0.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {name: value}), encoding="utf-8")
    with pytest.raises(ResultError, match=f"seed-0.json is damaged \\(no {name}\\)"):
        results.read(folder.parents[2])


@pytest.mark.parametrize(("accuracy", "reached"), [(0, 10), (0.5, 20), (1, 30)])
def test_an_accuracy_is_from_nought_to_one_both_ends_among_them(accuracy, reached):
    runs = frame({"a": [[0.1, 0.5, 1.0]]})
    assert results.iterations_to_accuracy(runs, accuracy)["iteration"].tolist() == [reached]
    for wrong in (-0.01, 1.01):
        with pytest.raises(ValueError, match=f"accuracy must be from 0 to 1, got {wrong}"):
            results.iterations_to_accuracy(runs, wrong)


@pytest.mark.parametrize("column", ["seed", "iteration", "train_loss", "test_loss", "test_accuracy"])
def test_a_summary_names_the_column_that_is_missing(column):
    with pytest.raises(ValueError, match=f"frame must have the column '{column}'"):
        results.summarise(frame({"a": [[0.1]]}).drop(columns=column))


def test_a_run_that_is_begun_anew_while_others_are_read_is_left_out(folder, monkeypatch):
    results.save(folder, 1, ROWS, RECORD | {"config": {"seed": 1}})
    load = results.load
    monkeypatch.setattr(results, "load", lambda place, seed: load(place, seed) if seed else None)
    assert results.read(folder.parents[2])["seed"].unique().tolist() == [1]


def test_two_values_have_an_interval_and_two_pairs_have_none():
    assert results.interval([0.7, 0.8]) == pytest.approx(stats.t.interval(0.95, 1, 0.75, 0.05))
    runs = frame({"a": [[0.5], [0.7], [0.9]], "b": [[0.4], [0.65], [0.7]]})
    a, b = (runs[runs["arm"] == arm] for arm in "ab")
    two, three = results.paired_difference(a[:2], b), results.paired_difference(a, b)
    assert np.isnan([two["low"], two["high"]]).all() and two["points"] == pytest.approx(7.5)
    assert three["low"] < three["points"] < three["high"] and three["points"] == pytest.approx(35 / 3)


def test_summary_has_scipys_interval_from_three_runs_on():
    values = {"three": [0.5, 0.6, 0.8], "two": [0.5, 0.6]}
    runs = frame({arm: [[value] for value in found] for arm, found in values.items()})
    table = results.summarise(runs).set_index("arm")
    low, high = stats.t.interval(0.95, 2, np.mean(values["three"]), stats.sem(values["three"]))
    assert table.loc["three", ["low", "high"]].tolist() == pytest.approx([low, high])
    assert np.isnan(table.loc["two", ["low", "high"]].to_numpy(float)).all()
    assert table["sd"].tolist() == pytest.approx([np.std(found, ddof=1) for found in values.values()])


def test_a_result_is_parsed_once_however_often_it_is_read_and_a_changed_one_anew(save, monkeypatch):
    save("headline", "fixed", 0, {70_000: 0.75})
    results._parsed_once.cache_clear()
    parsed, parse = [], pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda *args, **kwargs: parsed.append(1) or parse(*args, **kwargs))
    first = results.read()
    first["test_accuracy"] = 0.0  # one's own frame
    assert results.read()["test_accuracy"].tolist() == [0.75] and len(parsed) == 1
    save("headline", "fixed", 0, {70_000: 0.76})
    assert results.read()["test_accuracy"].tolist() == [0.76] and len(parsed) == 2


# Writing: what is on the disk when.


def test_both_files_are_on_the_disk_before_either_has_its_name(tmp_path, monkeypatch):
    written, sync = [], os.fsync

    def note(descriptor):
        written.append((os.fstat(descriptor).st_size, list(tmp_path.glob("seed-*"))))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    results.save(tmp_path, 0, ROWS, RECORD)
    sizes = [(tmp_path / name).stat().st_size for name in ("seed-0.json", "seed-0.csv")]
    assert written == [(size, []) for size in sizes] and min(sizes) > 0


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_run_is_not_there_when_its_replacement_is_interrupted_between_the_two_files(folder, monkeypatch, suffix):
    replace = paths._replace

    def interrupted(part, path):
        if path.suffix == suffix:
            raise KeyboardInterrupt
        replace(part, path)

    monkeypatch.setattr(paths, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.save(folder, 0, ROWS[:1], RECORD)
    assert results.load(folder, 0) is None
    assert [path.name for path in folder.iterdir()] == ["seed-0.csv"]


@pytest.mark.parametrize("rows", [[], [*ROWS[:1], {"iteration": 2}], [ROWS[0] | {"loss": 1.0}, ROWS[1]]])
def test_rows_have_the_columns_each_and_no_others(tmp_path, rows):
    with pytest.raises(ValueError, match="rows must each have iteration, lr, train_loss, .* and be at least one, got"):
        results.save(tmp_path / "new", 0, rows, RECORD)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["config", "data"])
def test_a_record_without_config_or_data_is_not_written(tmp_path, name):
    with pytest.raises(ValueError, match=f"record must have config and data, got no {name}"):
        results.save(tmp_path / "new", 0, ROWS, {key: value for key, value in RECORD.items() if key != name})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("cell", ["", "NA", "null"])
def test_a_cell_that_is_no_number_is_no_missing_value_either(folder, cell):
    """`nan` is what a run that diverged has; whoever puts another word there and a new checksum hears of it."""
    text = (folder / "seed-0.csv").read_text(encoding="utf-8").replace("nan", cell)
    record = json.loads((folder / "seed-0.json").read_text(encoding="utf-8"))
    (folder / "seed-0.csv").write_text(text, encoding="utf-8", newline="")
    record["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "seed-0.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match="could not convert string to float"):
        results.load(folder, 0)


# Reading: order, index, and what is missing.


def test_runs_stand_in_the_order_of_their_seeds_as_numbers(tmp_path):
    for seed in (10, 2):
        results.save(tmp_path / "toy" / "trial" / "fixed", seed, ROWS, RECORD | {"config": {"seed": seed}})
    table = results.read(tmp_path)
    assert table["seed"].tolist() == [2, 2, 10, 10] and table["iteration"].tolist() == [1, 2, 1, 2]
    assert table.index.tolist() == [0, 1, 2, 3]


def test_the_summary_of_nothing_is_an_empty_table_with_its_columns():
    table = results.summarise(results.read())
    assert table.empty and list(table) == [*results.ARM, "iterations", "accuracy", "low", "high", "sd", "n", "diverged"]


def test_an_arm_without_diverged_runs_has_none_beside_one_that_has():
    runs = frame({"a": [[0.5], [0.6]], "b": [[0.1], [0.7]]})
    runs.loc[(runs["arm"] == "b") & (runs["seed"] == 0), "train_loss"] = np.inf
    assert results.summarise(runs)[["arm", "n", "diverged"]].to_numpy().tolist() == [["a", 2, 0], ["b", 2, 1]]


def test_seeds_are_paired_within_a_data_set():
    first = pd.DataFrame({"dataset": ["one", "two"], "seed": [0, 0], "test_accuracy": [0.5, 0.75]})
    second = pd.DataFrame({"dataset": ["two", "one"], "seed": [0, 0], "test_accuracy": [0.25, 0.5]})
    got = results.paired_difference(first, second)
    assert (got["points"], got["n"]) == (25, 2)


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("column", ["dataset", "seed", "test_accuracy"])
def test_a_comparison_names_the_column_that_is_missing(name, column):
    arms = dict.fromkeys(("first", "second"), frame({"a": [[0.5]]}))
    arms[name] = arms[name].drop(columns=column)
    with pytest.raises(ValueError, match=f"{name} must have the column '{column}'"):
        results.paired_difference(**arms)


@pytest.mark.parametrize("column", [*results.KEYS, "iteration"])
def test_the_row_at_an_iteration_needs_the_columns_that_name_a_run(column):
    with pytest.raises(ValueError, match=f"frame must have the column '{column}'"):
        results.rows_at(frame({"a": [[0.5]]}).drop(columns=column), 10)


@pytest.mark.parametrize("column", [*results.KEYS, "iteration", "test_accuracy"])
def test_iterations_to_accuracy_name_the_column_that_is_missing(column):
    with pytest.raises(ValueError, match=f"frame must have the column '{column}'"):
        results.iterations_to_accuracy(frame({"a": [[0.5]]}).drop(columns=column), 0.5)


@pytest.mark.parametrize(("values", "error"), [(0.5, ValueError), ([[0.1, 0.2]], ValueError), (["a"], TypeError)])
def test_an_interval_is_one_of_a_sequence_of_numbers(values, error):
    with pytest.raises(error, match="values must be "):
        results.interval(values)


def test_no_value_has_no_interval():
    assert np.isnan(results.interval([])).all()
