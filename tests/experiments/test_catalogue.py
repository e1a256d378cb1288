"""The catalogue and the queue, beside what the paper and the issues say: rates, lengths, settings, reported numbers."""

import dataclasses
from collections import defaultdict

import numpy as np
import pytest

from clr.experiments import EXPERIMENTS, catalogue, configs
from clr.experiments.catalogue import PAPER, PORT
from clr.experiments.queue import QUEUE

# By arm: how many updates, and the rates of some of them. Lowest and highest of a cycle, and the first after each drop.
TABLE_2 = (0, 2000, 4000, 16_000, 17_000, 18_000, 22_000, 22_500, 23_000)  # of cycles of 4,000, 2,000 and 1,000
TO_70K = (0, 2000, 4000, 60_000, 60_500, 61_000, 65_000, 65_500, 66_000)  # of 4,000, 1,000 and 1,000


def stages(base: float, top: float) -> list[float]:
    return [rate / fall for fall in (1, 10, 100) for rate in (base, top, base)]


def drops(rate: float) -> dict[int, float]:
    return {0: rate, 59_999: rate, 60_000: rate / 10, 64_999: rate / 10, 65_000: rate / 100, 69_999: rate / 100}


def cycles(base: float, top: float, ks: tuple[int, ...]) -> dict[int, float]:
    return dict(zip(ks, stages(base, top), strict=True))


RATES = {
    "range-test/quick-unit": (4000, {0: 0.001, 2000: 0.0205, 4000: 0.04}),
    "range-test/full-caffe": (4000, {0: 0.0, 2000: 0.01, 4000: 0.02}),
    "range-test/quick-unit-held-out": (4000, {0: 0.0005, 2000: np.sqrt(0.0005), 4000: 1.0}),
    "range-test/full-caffe-held-out": (4000, {0: 0.00005, 2000: np.sqrt(0.000005), 4000: 0.1}),
    "paper-table-1/decay": (25_000, {0: 0.007, 4000: 0.001, 24_999: 0.001}),
    "paper-table-1/exp": (70_000, {0: 0.001, 1000: 0.001 * 0.99994**1000}),
    "paper-table-1/exp_range-bounds": (42_000, {0: 0.001, 2000: 0.006 * 0.99994**2000, 4000: 0.001 * 0.99994**4000}),
    "paper-table-1/exp_range-amplitude": (42_000, {0: 0.001, 2000: 0.001 + 0.005 * 0.99994**2000, 4000: 0.001}),
    "controls/fixed-25k": (25_000, {0: 0.001, 15_999: 0.001, 16_000: 0.0001, 21_999: 0.0001, 22_000: 0.00001}),
    "controls/fixed-25k-high": (25_000, {0: 0.003, 15_999: 0.003, 16_000: 0.0003, 21_999: 0.0003, 22_000: 0.00003}),
    "controls/triangular-25k-drops": (25_000, cycles(0.001, 0.005, TABLE_2)),
    "controls/triangular-25k": (25_000, {0: 0.001, 2000: 0.005, 4000: 0.001, 22_000: 0.005}),
    "controls/linear-25k": (25_000, {0: 0.005, 12_500: 0.0025, 24_999: 0.005 / 25_000}),
    "controls/one-cycle-25k": (25_000, {0: 0.0005, 11_250: 0.005, 22_499: 0.0005 + 4e-7, 22_500: 0.0005, 25_000: 5e-6}),
    "controls/triangular-70k-drops": (70_000, cycles(0.001, 0.005, TO_70K)),
    "controls/triangular-70k": (70_000, {0: 0.001, 2000: 0.005, 4000: 0.001, 66_000: 0.005}),
    "headline-controls/fixed-32k": (
        32_000, {0: 0.00625, 27_499: 0.00625, 27_500: 0.000625, 29_999: 0.000625, 30_000: 0.0000625},
    ),
    "sigmoid-bn/fixed": (60_000, {0: 0.001, 59_999: 0.001}),
    "sigmoid-bn/triangular": (24_000, {0: 0.001, 2000: 0.005, 4000: 0.001}),
    "mults/fixed": (25_000, {0: 0.001, 16_000: 0.0001, 22_000: 0.00001}),
    "mults/exp": (25_000, {0: 0.001, 1000: 0.001 * 0.99994**1000}),
    "mults/triangular": (25_000, {0: 0.001, 2000: 0.005, 4000: 0.001, 6000: 0.005}),
    "mults/triangular2": (25_000, {0: 0.001, 2000: 0.005, 4000: 0.001, 6000: 0.003}),
    "mults/decay": (25_000, {0: 0.007, 4000: 0.001}),
    "mults/exp_range": (25_000, {0: 0.001, 2000: 0.006 * 0.99994**2000, 4000: 0.001 * 0.99994**4000}),
    "adaptive/nesterov-fixed-70k": (70_000, drops(0.001)),
    "adaptive/nesterov-triangular-25k": (25_000, cycles(0.001, 0.006, TABLE_2)),
    "adaptive/adam-fixed-70k": (70_000, drops(0.0005)),
    "adaptive/adam-triangular-25k": (25_000, cycles(0.0005, 0.002, TABLE_2)),
    "adaptive/adam-triangular-70k": (70_000, cycles(0.0005, 0.002, TO_70K)),
    "adaptive/rmsprop-fixed-70k": (70_000, drops(0.0001)),
    "adaptive/rmsprop-triangular-25k": (25_000, cycles(0.0001, 0.0003, TABLE_2)),
    "adaptive/rmsprop-triangular-70k": (70_000, cycles(0.0001, 0.0003, TO_70K)),
    "adaptive/adagrad-fixed-70k": (70_000, drops(0.003)),
    "adaptive/adagrad-triangular-25k": (25_000, cycles(0.003, 0.035, TABLE_2)),
    "adaptive/adadelta-fixed-70k": (70_000, drops(0.01)),
    "adaptive/adadelta-triangular-25k": (25_000, cycles(0.01, 0.1, TABLE_2)),
    "resnet/constant": (8000, {0: 0.27575, 7999: 0.27575}),
    "resnet/triangular": (8000, {0: 0.12064, 2000: 0.48256, 4000: 0.12064, 6000: 0.48256}),
    "resnet/linear": (8000, {0: 0.48256, 4000: 0.24128, 8000: 0.0}),
    "resnet/linear-third": (8000, {0: 0.16085, 4000: 0.08043, 8000: 0.0}),
    "resnet/linear-triple": (8000, {0: 1.44767, 4000: 0.72383, 8000: 0.0}),
    "resnet/one-cycle": (8000, {0: 0.048256}),
    "resnet/cosine": (8000, {400: 0.48256, 8000: 0.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_an_arm_has_the_length_and_the_rates_that_are_said_of_it(name):
    experiment, _, arm = name.partition("/")
    config, (iterations, rates) = EXPERIMENTS[experiment].arms[arm], RATES[name]
    assert config.iterations == iterations
    tolerance = 1e-4 if experiment == "resnet" else 1e-9  # those are written with five digits
    assert {k: config.policy(k) for k in rates} == pytest.approx(rates, rel=tolerance)
    assert max(config.policy(np.arange(iterations))) <= max(rates.values()) * (1 + tolerance) or arm == "one-cycle"


def test_no_rate_of_the_one_cycle_is_above_its_peak():
    rates = EXPERIMENTS["resnet"].arms["one-cycle"].policy(np.arange(8000))
    assert rates.max() == pytest.approx(0.48256, rel=1e-4) and rates[0] == pytest.approx(rates.max() / 10)


# What arms share, and in what alone they differ.

FULL = catalogue.RunConfig("Cifar10Full", catalogue.Fixed(0.001), 25_000)


def same_but(config, **fields):
    """Return whether a config is that of Caffe's full net, but for its policy, its length and some fields."""
    return config == dataclasses.replace(FULL, policy=config.policy, iterations=config.iterations, **fields)


def test_what_is_no_question_of_an_experiment_is_as_in_caffes_solver():
    assert (FULL.momentum, FULL.batch_size, FULL.evaluate_every, FULL.reshuffle) == (0.9, 100, 500, False)
    for name in ("paper-table-1", "controls"):
        assert all(same_but(config) for config in EXPERIMENTS[name].arms.values())
    for net, config in EXPERIMENTS["sigmoid-bn"].arms.items():
        assert same_but(config, net="Cifar10FullSigmoidBN"), net


def test_initial_weights_and_pixels_are_crossed():
    arms = EXPERIMENTS["init"].arms
    assert len(arms) == 4
    for pixels in ("caffe", "unit"):
        for init in ("caffe", "torch"):
            config = arms[f"{pixels}-pixels-{init}-init"]
            assert same_but(config, pixels=pixels, init=init) and config.iterations == 10_000
            assert config.policy == catalogue.Fixed(0.001)


def test_the_form_of_momentum_is_crossed_with_the_net():
    arms = EXPERIMENTS["momentum-form"].arms
    assert len(arms) == 4
    for net, full_name in {"quick": "Cifar10Quick", "full": "Cifar10Full"}.items():
        for where, optimizer in {"inside": "CaffeSGD", "outside": "SGD"}.items():
            config = arms[f"{net}-{where}"]
            assert same_but(config, net=full_name, optimizer=optimizer) and config.iterations == 24_000
            assert config.policy == EXPERIMENTS["controls"].arms["triangular-25k"].policy


def test_each_policy_is_trained_with_multipliers_and_without():
    arms = EXPERIMENTS["mults"].arms
    assert len(arms) == 12
    for arm in [arm for arm in arms if not arm.endswith("-without")]:
        assert same_but(arms[arm], net="Cifar10Quick", mults=True)
        assert arms[f"{arm}-without"] == dataclasses.replace(arms[arm], mults=False)


@pytest.mark.parametrize(
    ("optimizer", "momentum", "arms"),
    [("Nesterov", 0.9, 2), ("Adam", 0.9, 3), ("RMSprop", 0.0, 3), ("AdaGrad", 0.0, 2), ("AdaDelta", 0.95, 2)],
)
def test_a_solver_has_caffes_momentum(optimizer, momentum, arms):
    found = [c for arm, c in EXPERIMENTS["adaptive"].arms.items() if arm.startswith(f"{optimizer.lower()}-")]
    assert len(found) == arms and all(same_but(c, optimizer=optimizer, momentum=momentum) for c in found)


def test_range_tests_are_evaluated_forty_times():
    arms = EXPERIMENTS["range-test"].arms
    for arm, config in arms.items():
        assert config.iterations == 40 * config.evaluate_every
        assert config.hold_out_every == (10 if arm.endswith("held-out") else None)
    assert same_but(arms["full-caffe"], evaluate_every=100)


def test_the_arms_in_bfloat16_are_the_headlines_up_to_20_000():
    for arm, config in EXPERIMENTS["precision"].arms.items():
        float32 = EXPERIMENTS["headline"].arms[arm]
        assert config == dataclasses.replace(float32, precision="bfloat16", iterations=20_000)
    assert list(EXPERIMENTS["precision"].arms) == ["fixed", "triangular"]


def test_the_residual_nets_settings_are_those_of_the_issue():
    config = EXPERIMENTS["resnet"].arms["linear"]
    assert (config.momentum, config.weight_decay, config.init, config.mults) == (0.9, 1e-4, "he", False)
    assert (config.reshuffle, config.evaluate_every, config.batch_size) == (True, 400, 100)


def test_weights_are_kept_of_the_headline_alone():
    assert [name for name, experiment in EXPERIMENTS.items() if experiment.keep_weights] == ["headline"]
    assert all(name == experiment.name for name, experiment in EXPERIMENTS.items())


# What others reported, in percent as they write it.


@pytest.mark.parametrize(
    ("name", "source", "reported"),
    [
        ("headline", PORT, {"fixed": {70: 75.9}, "triangular": {20: 75.9, 32: 77.2, 35: 75.3}}),
        (
            "paper-table-1", PAPER,
            {"fixed": {70: 81.4}, "triangular2": {25: 81.4}, "decay": {25: 78.5}, "exp": {70: 79.1},
             "exp_range-bounds": {42: 82.2}},
        ),
        ("sigmoid-bn", PAPER, {"fixed": {60: 60.8}, "triangular": {24: 72.2}}),
        (
            "adaptive", PAPER,
            {"nesterov-fixed-70k": {70: 82.1}, "nesterov-triangular-25k": {25: 81.3}, "adam-fixed-70k": {70: 81.4},
             "adam-triangular-25k": {25: 79.8}, "adam-triangular-70k": {70: 81.1}, "rmsprop-fixed-70k": {70: 75.2},
             "rmsprop-triangular-25k": {25: 72.8}, "rmsprop-triangular-70k": {70: 75.1},
             "adagrad-fixed-70k": {70: 74.6}, "adagrad-triangular-25k": {25: 76.0}, "adadelta-fixed-70k": {70: 67.3},
             "adadelta-triangular-25k": {25: 67.3}},
        ),
        (
            "resnet", PAPER,
            {"fixed-0.1": {8: 92.8}, "fixed-0.2": {8: 93.3}, "fixed-0.3": {8: 91.8}, "triangular-drops": {8: 93.6}},
        ),
    ],
)  # fmt: skip
def test_reported_accuracies_are_those_in_print(name, source, reported):
    experiment = EXPERIMENTS[name]
    found = defaultdict(dict)
    for (arm, iterations), accuracy in experiment.reported.items():
        found[arm][iterations // 1000] = round(100 * accuracy, 3)
    assert found == reported and experiment.source == source


def test_reported_bounds_are_those_in_print():
    assert catalogue.REPORTED_BOUNDS == {
        "quick-unit": ("earlier port", 0.0025, 0.01, 5), "full-caffe": ("paper", 0.001, 0.006, 1),
    }  # fmt: skip


# The queue.


def seeds_in_the_queue():
    found = defaultdict(int)
    for row in QUEUE:
        for arm, _ in configs(row.experiment, 1, arms=row.arms):
            found[row.experiment, arm] = max(row.seeds, found[row.experiment, arm])
    return found


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("headline", {"fixed": 5, "triangular": 5}),
        ("headline-controls", {"fixed-32k": 5, "linear-32k": 5, "triangular-32k-drops": 5}),
        ("range-test", {"quick-unit-held-out": 5, "full-caffe-held-out": 5}),
        (
            "controls",
            dict.fromkeys(("fixed-25k", "fixed-25k-high", "triangular-25k-drops", "triangular-25k", "linear-25k",
                           "one-cycle-25k"), 5),
        ),
        ("paper-table-1", {"triangular2": 5, "fixed": 3, "decay": 3, "exp_range-bounds": 3, "exp_range-amplitude": 3}),
        ("step-size", {"step-500": 3, "step-4000": 3}),
        ("momentum-form", {"full-inside": 3, "full-outside": 3}),
        ("precision", {"fixed": 3, "triangular": 3}),
        ("resnet", dict.fromkeys(EXPERIMENTS["resnet"].arms, 5) | {"linear-third": 1, "linear-triple": 1}),
        ("mults", dict.fromkeys(EXPERIMENTS["mults"].arms, 1)),
        ("adaptive", dict.fromkeys(EXPERIMENTS["adaptive"].arms, 1)),
        ("sigmoid-bn", {"fixed": 1, "triangular": 1}),
    ],
)  # fmt: skip
def test_the_queue_trains_as_many_seeds_of_an_arm_as_its_question_needs(name, seeds):
    assert {arm: n for (experiment, arm), n in seeds_in_the_queue().items() if experiment == name} == seeds


def test_the_queue_begins_with_the_headline_and_its_controls():
    assert [row.experiment for row in QUEUE[:2]] == ["headline", "headline-controls"]
    assert len({name for name, _ in seeds_in_the_queue()}) == 12


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_arm_ends_changes_and_is_compared_where_it_is_evaluated(name):
    experiment = EXPERIMENTS[name]
    for config in experiment.arms.values():
        stages = [start for start, _ in getattr(config.policy, "stages", ())]
        assert not [k for k in (config.iterations, *stages) if k % config.evaluate_every]
    for (arm, k), accuracy in experiment.reported.items():
        assert k <= experiment.arms[arm].iterations and not k % experiment.arms[arm].evaluate_every and 0 < accuracy < 1


def test_the_headline_decays_all_weights_as_the_earlier_port_did():
    assert {config.weight_decay for config in EXPERIMENTS["headline"].arms.values()} == {0.004}
