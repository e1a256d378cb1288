"""RunConfig: through JSON and back, and which stored result or checkpoint is the run that is asked for."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clr.policies import Fixed, Stages, Triangular, to_dict
from clr.results import ResultError
from clr.training import RunConfig, require_same_run

CONFIG = RunConfig(
    net="Cifar10Quick", policy=Triangular(0.001, 0.01, 3), iterations=8, batch_size=20, pixels="unit", init="torch",
    mults=False, weight_decay=0.004, reshuffle=True, evaluate_every=3, test_pictures=100,
)  # fmt: skip
DATA = {"name": "toy", "fingerprint": "0"}
RESULTS = Path(__file__).parents[2] / "results"
DEFAULTS = {
    field.name: field.default for field in dataclasses.fields(RunConfig) if field.default is not dataclasses.MISSING
}


def changed(**values):
    return dataclasses.replace(CONFIG, **values)


def through_json(config):
    return json.loads(json.dumps(config.to_dict()))


@pytest.fixture(scope="module")
def committed():
    """The configs of all committed results, as their files have them."""
    return {
        path: json.loads(path.read_text(encoding="utf-8"))["config"]
        for path in sorted(RESULTS.glob("*/*/*/seed-*.json"))
    }


@pytest.mark.parametrize("policy", [CONFIG.policy, Stages({0: Fixed(0.1), 5: Triangular(0.1, 0.2, 5)})])
def test_a_config_comes_back_from_json(policy):
    config = changed(policy=policy)
    values = through_json(config)
    assert set(values) == {field.name for field in dataclasses.fields(RunConfig)}
    assert RunConfig.from_dict(values) == config


def test_the_policy_is_stored_by_name_and_arguments():
    values = through_json(CONFIG)
    assert values["policy"] == {"policy": "Triangular", "base_lr": 0.001, "max_lr": 0.01, "step_size": 3}


def test_numbers_of_other_libraries_make_the_same_config():
    """A run of hours must not end with a record that cannot be written."""
    numbers = {"momentum": np.float32(0.5), "weight_decay": Fraction(1, 4), "iterations": np.int64(8)}
    assert changed(**numbers) == changed(momentum=0.5, weight_decay=0.25, iterations=8)
    assert through_json(changed(**numbers))["momentum"] == 0.5


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_committed_result_without_a_field_is_the_run_with_its_default(committed, name):
    """So a field that comes later leaves the results valid, if its default is what the code did before."""
    assert committed
    for path, config in committed.items():
        asked = {"config": RunConfig.from_dict(config).to_dict(), "data": DATA}
        stored = {"config": {key: value for key, value in config.items() if key != name}, "data": DATA}
        if config.get(name, DEFAULTS[name]) == DEFAULTS[name]:
            require_same_run(path, stored, asked)
        else:
            refused = rf"{name} must be .* for {config['net']}"  # the default means nothing for a residual net
            message = rf"config.{name} is {DEFAULTS[name]!r}, asked for {config[name]!r}|{refused}"
            with pytest.raises(ResultError, match=message):
                require_same_run(path, stored, asked)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": "red"}, "r.json cannot be compared: config.colour is unknown to this version; delete it, or keep"),
        (
            {"policy": {"policy": "Jump"}},
            "r.json cannot be compared: this version cannot read the config .* got 'Jump'",
        ),
        ({"momentum": 2}, r"this version cannot read the config \(momentum must be in \[0, 1\), got 2\)"),
        (
            {"policy": to_dict(Fixed(0.2))},
            "r.json holds another run: config.policy.policy is 'Fixed', asked for 'Triangular'",
        ),
        ({"policy": to_dict(Triangular(0.001, 0.02, 3))}, "config.policy.max_lr is 0.02, asked for 0.01"),
        ({"seed": 3}, "r.json holds another run: config.seed is 3, asked for 0; delete it, or keep"),
    ],
)
def test_a_stored_run_of_another_config_is_refused_by_the_field(values, message):
    stored = {"config": through_json(CONFIG) | values, "data": DATA}
    with pytest.raises(ResultError, match=message):
        require_same_run(Path("r.json"), stored, {"config": CONFIG.to_dict(), "data": DATA})


def test_a_stored_run_without_a_needed_field_or_of_other_data_is_refused():
    asked = {"config": CONFIG.to_dict(), "data": DATA}
    for name in ("policy", "net"):
        values = {key: value for key, value in through_json(CONFIG).items() if key != name}
        with pytest.raises(ResultError, match=name):
            require_same_run(Path("r.json"), {"config": values, "data": DATA}, asked)
    with pytest.raises(ResultError, match="data.name is 'other', asked for 'toy'"):
        require_same_run(Path("r.json"), {"config": through_json(CONFIG), "data": DATA | {"name": "other"}}, asked)

    extra = {"config": through_json(CONFIG), "data": DATA | {"more": 1}}
    with pytest.raises(ResultError, match="data.more is 1, asked for None"):
        require_same_run(Path("r.json"), extra, asked)
    with pytest.raises(ResultError, match="data is 'toy', asked for {'name': 'toy'"):
        require_same_run(Path("r.json"), extra | {"data": "toy"}, asked)


def test_the_defaults_are_those_that_stored_results_rest_on():
    assert DEFAULTS == {
        "seed": 0, "batch_size": 100, "pixels": "caffe", "init": "caffe", "mults": True, "optimizer": "CaffeSGD",
        "momentum": 0.9, "weight_decay": None, "reshuffle": False, "evaluate_every": 500, "test_pictures": None,
        "hold_out_every": None, "precision": "float32",
    }  # fmt: skip


def test_a_config_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.seed = 1


def test_a_run_that_holds_out_every_image_is_refused():
    with pytest.raises(ValueError, match="hold_out_every must be at least 2, got 1"):
        changed(hold_out_every=1)
    assert changed(hold_out_every=2).hold_out_every == 2


@pytest.mark.parametrize(
    ("policy", "iterations", "end"),
    [(Fixed(0.1), 7, 7), (Triangular(0.1, 0.2, 2), 11, 8), (Triangular(0.1, 0.2, 2), 8, 8)],
)
def test_the_last_cycle_end_is_that_of_a_whole_cycle_or_of_the_run_where_there_are_none(policy, iterations, end):
    assert RunConfig("Cifar10Quick", policy, iterations).last_cycle_end == end
