"""The policies against the paper's numbers, exact rational arithmetic, torch's CyclicLR where the two agree, and
named pins of where torch differs."""

import copy
import json
import math
import pickle
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR

from clr import PolicyLR
from clr.experiments import EXPERIMENTS
from clr.policies import (
    POLICIES,
    Cosine,
    Decay,
    Exp,
    ExpRange,
    Fixed,
    OneCycle,
    Parabolic,
    Policy,
    Ramp,
    Sinusoidal,
    Stages,
    Triangular,
    Triangular2,
    from_dict,
    step_size,
    to_dict,
)
from clr.tensorflow_call import cyclic_learning_rate

CYCLIC = [Triangular, Triangular2, Parabolic, Sinusoidal]
EXAMPLES = [
    Fixed(0.1),
    Exp(0.01, 0.99),
    Decay(0.001, 0.007, 50),
    Triangular(0.001, 0.006, 20),
    Triangular2(0.001, 0.006, 7),
    ExpRange(0.001, 0.006, 20, 0.99),
    ExpRange(0.001, 0.006, 20, 0.99, "amplitude"),
    Parabolic(0.001, 0.006, 20),
    Sinusoidal(0.001, 0.006, 20),
    Ramp(0.0, 0.02, 100),
    Ramp(0.02, 1e-5, 100, "exponential"),
    OneCycle(0.001, 0.006, 101),
    Cosine(0.006, 100),
    Cosine(0.006, 100, warmup=7),
    Stages({0: Triangular(0.001, 0.006, 20), 40: Fixed(0.001), 60: Stages({0: Exp(0.1, 0.9), 30: Ramp(0.1, 0, 20)})}),
]
each_policy = pytest.mark.parametrize("policy", EXAMPLES, ids=str)
each_cyclic = pytest.mark.parametrize("kind", CYCLIC)


def close(rate):
    return pytest.approx(rate, rel=1e-15, abs=0)


# The paper's values, and the two earlier implementations'.


def test_triangular_has_the_papers_values():
    policy = Triangular(0.001, 0.006, 2000)
    rates = [policy(k) for k in (0, 500, 1000, 2000, 3000, 4000)]
    assert rates == close([0.001, 0.00225, 0.0035, 0.006, 0.0035, 0.001])


def test_triangular2_halves_its_peaks():
    policy = Triangular2(0.001, 0.006, 2000)
    assert [policy(k) for k in (2000, 6000, 10_000, 14_000)] == close([0.006, 0.0035, 0.00225, 0.001625])
    assert [policy(k) for k in (0, 4000, 8000, 12_000)] == [0.001] * 4


def test_exp_range_of_bounds_lowers_both_bounds():
    policy = ExpRange(0.001, 0.006, 2000, 0.99994)
    assert [policy(k) for k in (2000, 4000, 42_000)] == pytest.approx([0.0053215, 0.00078662, 0.00048272], rel=1e-5)


def test_exp_range_of_amplitude_keeps_base_lr():
    policy = ExpRange(0.001, 0.006, 2000, 0.99994, decays="amplitude")
    assert [policy(k) for k in (2000, 4000, 42_000)] == pytest.approx([0.00543459, 0.001, 0.00140227], rel=1e-5)


def test_exp_has_the_papers_declines():
    rates = [Exp(1.0, 0.99994)(k) for k in (4000, 25_000, 42_000, 70_000)]
    assert rates == pytest.approx([0.78662, 0.22312, 0.080454, 0.0149937], rel=1e-5)


def test_decay_falls_for_one_step_size_and_stays():
    policy = Decay(0.001, 0.007, 4000)
    assert [policy(k) for k in (0, 1000, 2000, 4000, 25_000)] == close([0.007, 0.0055, 0.004, 0.001, 0.001])


def test_windows_are_welchs_and_hanns():
    u = np.arange(201) / 200
    assert Parabolic(0, 1, 100)(np.arange(201)) == pytest.approx(1 - (2 * u - 1) ** 2, abs=1e-15)
    assert Sinusoidal(0, 1, 100)(np.arange(201)) == pytest.approx((1 - np.cos(2 * np.pi * u)) / 2, abs=1e-15)


@each_cyclic
def test_windows_meet_the_bounds_exactly(kind):
    policy = kind(0.1, 0.7, 30)
    assert (policy(0), policy(30), policy(60)) == (0.1, 0.7, 0.1)


def test_ramp_reaches_its_end_at_its_last_iteration_and_stays():
    for policy in (Ramp(0.001, 0.04, 4000), Ramp(0.04, 0.001, 4000), Ramp(0.001, 0.04, 4000, "exponential")):
        assert (policy(0), policy(4000), policy(10**12)) == (policy.start_lr, policy.end_lr, policy.end_lr)
        assert policy(3999) != policy.end_lr


def test_exponential_ramp_multiplies_by_the_same_factor():
    rates = Ramp(1e-5, 10.0, 60, "exponential")(np.arange(61))
    assert rates[1:] / rates[:-1] == pytest.approx(10**0.1, rel=1e-13)


def test_one_cycle_has_the_rates_of_the_catalogues_stages():
    staged = EXPERIMENTS["controls"].arms["one-cycle-25k"].policy
    k = np.arange(25_000)
    assert np.array_equal(OneCycle(0.0005, 0.005, 25_000)(k), staged(k))


@pytest.mark.parametrize("iterations", [1, 2, 3, 19, 20, 101, 25_000])
def test_one_cycle_peaks_once_and_ends_at_a_hundredth_of_base_lr(iterations):
    rates = OneCycle(0.1, 1.0, iterations)(np.arange(iterations + 3))
    peak = int(rates.argmax())
    assert (rates[0], rates[-1]) == (0.1, 0.1 / 100)
    assert peak == max(1, int(0.45 * iterations)) and rates[peak] == 1.0
    assert (np.diff(rates[: peak + 1]) > 0).all() and (np.diff(rates[peak:]) <= 0).all()
    assert rates[2 * peak] == 0.1


def test_one_cycle_lets_the_momentum_fall_while_the_rate_rises():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    n = 100
    scheduler = PolicyLR(optimizer, OneCycle(0.1, 1.0, n), momentum=lambda k: 0.95 - 0.1 * OneCycle(0, 1, n)(k))
    momenta = []
    for _ in range(n):
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    assert momenta[:46] == pytest.approx(np.linspace(0.95, 0.85, 46))
    assert momenta[45:91] == pytest.approx(np.linspace(0.85, 0.95, 46))
    assert momenta[90:] == [0.95] * 10


@pytest.mark.parametrize("iterations", [1, 2, 7, 1000])
def test_cosine_without_warmup_is_torchs(iterations):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    rates = rates_of(CosineAnnealingLR(optimizer, T_max=iterations), iterations + 1)
    assert Cosine(0.3, iterations)(np.arange(iterations + 1)) == pytest.approx(rates, rel=1e-9, abs=1e-15)


def test_cosine_warms_up_by_equal_steps_and_then_is_a_cosine_of_what_is_left():
    policy, rest = Cosine(0.5, 1000, warmup=50), Cosine(0.5, 950)
    assert policy(np.arange(51)) == close(0.5 * np.arange(1, 52) / 51)
    assert np.array_equal(policy(50 + np.arange(2000)), rest(np.arange(2000)))
    assert (policy(50), policy(1000), policy(10**12)) == (0.5, 0.0, 0.0)


def test_a_cycle_is_two_step_sizes_long():
    for kind in CYCLIC:
        assert kind(0.1, 0.2, 7).cycle_length == 14
        assert kind(0.1, 0.2, 7)(14) == 0.1


def test_the_tensorflow_ports_test_values_hold():
    assert cyclic_learning_rate(5, 0.01, 0.1, 20) == pytest.approx(0.0325, rel=1e-6)
    assert cyclic_learning_rate(5, 0.01, 0.1, 20, mode="triangular2") == pytest.approx(0.0325, rel=1e-6)
    assert cyclic_learning_rate(5, 0.01, 0.1, 20, mode="exp_range") == pytest.approx(0.03249325081, rel=1e-6)


def test_the_functional_form_is_the_policies():
    k = np.arange(250)
    for mode, policy in {
        "triangular": Triangular(0.01, 0.1, 20),
        "triangular2": Triangular2(0.01, 0.1, 20),
        "exp_range": ExpRange(0.01, 0.1, 20, 0.997, "amplitude"),
    }.items():
        assert np.array_equal(cyclic_learning_rate(k, gamma=0.997, mode=mode), policy(k))


def test_step_size_counts_the_last_part_of_a_batch():
    assert step_size(examples=50_000, batch_size=100, epochs=4) == step_size(50_000, 100) == 2000
    assert step_size(50_000, 128, epochs=2) == 782
    assert step_size(10, 100, epochs=0.1) == 1


# Stages.


def test_stages_are_the_papers_fixed_schedule():
    policy = Stages({0: Fixed(0.001), 60_000: Fixed(0.0001), 65_000: Fixed(0.00001)})
    starts = [0, 59_999, 60_000, 64_999, 65_000, 70_000]
    assert [policy(k) for k in starts] == [0.001, 0.001, 0.0001, 0.0001, 0.00001, 0.00001]


def test_each_stage_starts_again_at_its_own_zero():
    stages = {0: Triangular2(0.001, 0.005, 2000), 16_000: Triangular2(0.0001, 0.0005, 1000)}  # the paper's Table 2
    policy = Stages(stages)
    assert [policy(16_000 + k) for k in (0, 1000, 3000)] == [stages[16_000](k) for k in (0, 1000, 3000)]
    assert policy(15_999) == stages[0](15_999)


def test_stages_take_iterations_in_any_order():
    policy = EXAMPLES[-1]
    k = np.random.default_rng(0).permutation(200).reshape(10, 20)
    assert policy(k) == close(np.vectorize(policy)(k))


def test_stages_may_be_one_or_nested_or_given_as_pairs():
    assert Stages({0: Fixed(0.1)})(7) == 0.1
    assert Stages({0: Stages({0: Fixed(0.1), 5: Fixed(0.2)}), 9: Fixed(0.3)})(np.array([4, 5, 8, 9])).tolist() == [
        *(0.1, 0.2, 0.2, 0.3),
    ]
    assert Stages(((5, Fixed(0.2)), (0, Fixed(0.1)))) == Stages({np.int64(0): Fixed(0.1), 5: Fixed(0.2)})


def test_stages_do_not_see_what_is_multiplied_away():
    """A stage is asked about iterations before its start, too, where arrays are; nothing infinite may come of that."""
    rates = Stages({0: Fixed(0.1), 10**6: Exp(1.0, 1e-300)})(np.array([0, 10**6 - 1, 10**6, 10**6 + 5]))
    assert rates.tolist() == [0.1, 0.1, 1.0, 0.0]


# Exactness.


def exact(policy, k):
    """The rate by the paper's own code (its appendix), in rational numbers; powers and sines in ever so many digits."""
    if isinstance(policy, Ramp):
        k = min(k, policy.iterations)
        return Fraction(policy.start_lr) + (Fraction(policy.end_lr) - Fraction(policy.start_lr)) * k / policy.iterations
    if isinstance(policy, Cosine):
        left = max(Fraction(0), Fraction(policy.iterations - max(k, policy.warmup), policy.iterations - policy.warmup))
        return Fraction(policy.max_lr) * min(k + 1, policy.warmup + 1) / (policy.warmup + 1) * sine(left) ** 2
    base, size = Fraction(policy.base_lr), getattr(policy, "step_size", None)
    if isinstance(policy, Exp):
        return base * power(policy.gamma, k)
    height = Fraction(policy.max_lr) - base
    if isinstance(policy, OneCycle):
        half = max(1, policy.iterations * 45 // 100)
        end = max(policy.iterations, 2 * half + 1)
        if k >= 2 * half:
            return base * (1 - Fraction(99, 100) * (min(k, end) - 2 * half) / (end - 2 * half))
        return base + height * (half - abs(k - half)) / half
    if isinstance(policy, Decay):
        return base + height * (size - min(k, size)) / size
    cycle = k // (2 * size)
    x = Fraction(k - (2 * cycle + 1) * size, size)
    part = max(Fraction(0), 1 - abs(x))
    if isinstance(policy, Triangular2):
        part /= 2 ** min(cycle, 5000)  # beyond, no float is above 0
    if isinstance(policy, Parabolic):
        part = 1 - x**2
    if isinstance(policy, Sinusoidal):
        part = sine(part) ** 2
    if isinstance(policy, ExpRange):
        decline = power(policy.gamma, k)
        return (base + height * part) * decline if policy.decays == "bounds" else base + height * part * decline
    return base + height * part


def power(gamma, k):
    with localcontext(prec=60):
        return Fraction(Decimal(gamma) ** k)


def sine(part):
    """sin(pi / 2 * part), by its series."""
    x = part * Fraction("1.57079632679489661923132169163975144209858469968755")
    x = Fraction(round(x * 10**50), 10**50)
    return sum((-1) ** n * x ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(18))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 2000, 999_983, 10**11 + 3])
def test_rates_are_exact_to_the_last_digits_at_any_iteration(size):
    near_one = 1 - 2.0**-40  # declines to 0.4 in 10^12 iterations
    policies = [
        *(kind(low, high, size) for kind in (*CYCLIC, Decay) for low, high in [(0.001, 0.006), (0, 1), (1e-9, 0.3)]),
        *(ExpRange(0.001, 0.006, size, near_one, decays) for decays in ("bounds", "amplitude")),
        *(Ramp(start, end, size) for start, end in [(0, 0.02), (0.3, 1e-9), (0.02, 0)]),
        *(OneCycle(low, high, size) for low, high in [(0.001, 0.006), (0, 1), (1e-9, 0.3)]),
        Exp(0.001, near_one),
    ]
    edges = (0, 1, size - 1, size, size + 1, 2 * size - 1, 2 * size, 2 * size + 1)
    anywhere = np.random.default_rng(size).integers(0, 10**12, 20).tolist()
    iterations = {*edges, *(10**12 + k for k in edges), *anywhere}
    for policy in policies:
        for k in iterations:
            rate, truth = Fraction(policy(k)), exact(policy, k)
            assert abs(rate - truth) <= truth * Fraction("1e-15") + Fraction("1e-300"), (policy, k)


@each_cyclic
def test_phase_is_exact_at_iteration_ten_to_the_twelve(kind):
    policy, far = kind(0.001, 0.006, 7), 14 * 10**11
    expected = kind(0.001, 0.001, 7) if kind is Triangular2 else policy  # whose amplitude has halved away
    assert [policy(far + k) for k in range(14)] == [expected(k) for k in range(14)]
    assert policy(far + np.arange(14)).tolist() == policy(far + torch.arange(14)).tolist()


def test_triangular2_never_overflows():
    policy = Triangular2(0.001, 0.006, 1)
    for cycle in (1023, 1024, 1025, 10**6, 10**12):
        peak = 2 * cycle + 1
        assert policy(peak) == policy(np.array(peak)) == policy(torch.tensor(peak)).item() == 0.001
    assert Triangular2(0.0, 1.0, 1)(2 * 1022 + 1) == 2.0**-1022


# One formula for ints, arrays and tensors.


@pytest.mark.parametrize("dtype", [*np.typecodes["AllInteger"], ">i8", ">u2"])
@each_policy
def test_arrays_of_every_integer_type_have_the_scalars_rates(policy, dtype):
    k = np.arange(128).astype(dtype)
    rates = policy(k)
    assert isinstance(rates, np.ndarray)
    assert rates.dtype == np.float64
    assert rates == close([policy(i) for i in range(128)])
    assert policy(k[5]) == policy(5)
    assert type(policy(k[5])) is float


@pytest.mark.parametrize("dtype", [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)])
@each_policy
def test_tensors_of_every_integer_type_have_the_scalars_rates(policy, dtype):
    rates = policy(torch.arange(128).to(getattr(torch, dtype)))
    assert rates.dtype == torch.float64
    assert rates.numpy() == close([policy(i) for i in range(128)])


def test_small_integers_do_not_wrap_around():
    policy = Triangular(0.001, 0.006, 2000)
    assert policy(np.array([250], np.uint8)) == policy(torch.tensor([250], dtype=torch.uint8)).numpy() == policy(250)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (6,), (2, 3), (1, 2, 3)])
@each_policy
def test_shapes_are_kept(policy, shape):
    k = np.arange(math.prod(shape)).reshape(shape)
    assert np.shape(policy(k)) == policy(torch.tensor(k)).shape == shape
    assert policy(k).dtype == np.float64
    assert policy(torch.tensor(k)).numpy() == close(policy(k))


def test_compiled_rates_are_the_eager_ones():
    torch.compiler.reset()
    compiled = torch.compile(lambda k: [policy(k) for policy in EXAMPLES], fullgraph=True, backend="eager")
    k = torch.arange(120)
    for policy, rates, rate in zip(EXAMPLES, compiled(k), compiled(k[7]), strict=True):
        assert rates.numpy() == close(policy(np.arange(120))), policy
        assert rate.dtype == torch.float64, policy
        assert rate.item() == close(policy(7)), policy


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_the_functional_form_compiles(mode):
    torch.compiler.reset()
    compiled = torch.compile(lambda k: cyclic_learning_rate(k, gamma=0.997, mode=mode), fullgraph=True, backend="eager")
    assert compiled(torch.arange(250)).numpy() == close(cyclic_learning_rate(np.arange(250), gamma=0.997, mode=mode))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_policy
def test_tensors_stay_on_their_device(policy):
    rates = policy(torch.arange(120, device="cuda"))
    assert rates.is_cuda
    assert rates.dtype == torch.float64
    assert rates.cpu().numpy() == close(policy(np.arange(120)))


@each_policy
def test_a_pandas_column_gives_its_rates(policy):
    assert np.array_equal(policy(pd.Series([9, 4, 70], index=[5, 0, 2])), policy(np.array([9, 4, 70])))


@each_policy
def test_the_argument_is_left_alone(policy):
    array, tensor = np.arange(120), torch.arange(120)
    policy(array), policy(tensor)
    assert np.array_equal(array, np.arange(120))
    assert torch.equal(tensor, torch.arange(120))


# A policy is a value.


def bounds(low=0.0):
    return st.tuples(st.floats(low, 10), st.floats(low, 10)).map(sorted)


sizes, gammas = st.integers(1, 10**6), st.floats(0.5, 1, exclude_min=True)
parts = st.floats(0, 1, exclude_max=True)
cyclics = st.one_of(
    *(st.builds(lambda kind, b, size: kind(*b, size), st.just(kind), bounds(), sizes) for kind in CYCLIC),
    st.builds(lambda b, *rest: ExpRange(*b, *rest), bounds(), sizes, gammas, st.sampled_from(["bounds", "amplitude"])),
)
simple = st.one_of(
    cyclics,
    st.builds(Fixed, st.floats(0, 10)),
    st.builds(Exp, st.floats(0, 10), gammas),
    st.builds(lambda b, size: Decay(*b, size), bounds(), sizes),
    st.builds(Ramp, st.floats(1e-9, 10), st.floats(1e-9, 10), sizes, st.sampled_from(["linear", "exponential"])),
    st.builds(lambda b, size: OneCycle(*b, size), bounds(), sizes),
    st.builds(lambda peak, size, part: Cosine(peak, size, int(part * size)), st.floats(0, 10), sizes, parts),
)
staged = st.builds(
    lambda first, later: Stages({0: first, **later}), simple, st.dictionaries(st.integers(1, 10**6), simple, max_size=4)
)
policies = st.one_of(simple, staged)
iterations = st.integers(0, 10**12)


@given(cyclics, iterations)
def test_a_cyclic_rate_stays_within_its_bounds(policy, k):
    low = 0 if getattr(policy, "decays", None) == "bounds" else policy.base_lr
    assert low * (1 - 1e-15) <= policy(k) <= policy.max_lr * (1 + 1e-15)


@given(st.sampled_from([Triangular, Parabolic, Sinusoidal]), bounds(), sizes, iterations)
def test_a_cycle_repeats_and_is_symmetric(kind, bounds, size, k):
    policy = kind(*bounds, size)
    assert policy(k) == policy(k + 2 * size) == policy(2 * size - k % (2 * size))


@given(policies, st.lists(iterations, min_size=1, max_size=5))
def test_int_array_and_tensor_agree(policy, ks):
    rates = [policy(k) for k in ks]
    assert policy(np.array(ks)) == pytest.approx(rates, rel=1e-15, abs=1e-300)
    assert policy(torch.tensor(ks)).numpy() == pytest.approx(rates, rel=1e-15, abs=1e-300)


@given(simple, st.integers(0, 10**5))
def test_any_rate_is_exact_to_the_last_digits(policy, k):
    if getattr(policy, "spacing", None) != "exponential":
        rate, truth = Fraction(policy(k)), Fraction(policy.lr) if isinstance(policy, Fixed) else exact(policy, k)
        assert abs(rate - truth) <= truth * Fraction("2e-15") + Fraction("1e-300")


@given(st.builds(Ramp, st.floats(1e-9, 10), st.floats(1e-9, 10), sizes, st.just("exponential")), iterations)
def test_an_exponential_ramp_is_a_straight_line_in_the_logarithm(ramp, k):
    done = min(k, ramp.iterations) / ramp.iterations
    line = math.log(ramp.start_lr) * (1 - done) + math.log(ramp.end_lr) * done
    assert math.log(ramp(k)) == pytest.approx(line, rel=1e-12, abs=1e-12)


@given(staged, st.integers(0, 2 * 10**6))
def test_the_stage_that_began_last_gives_the_rate(policy, k):
    start, stage = max((pair for pair in policy.stages if pair[0] <= k), key=lambda pair: pair[0])
    assert policy(k) == stage(k - start)


@given(policies)
def test_a_policy_comes_back_whole_from_json_pickle_and_print(policy):
    for again in (
        from_dict(json.loads(json.dumps(to_dict(policy)))),
        pickle.loads(pickle.dumps(policy)),
        copy.deepcopy(policy),
        eval(repr(policy)),
    ):
        assert again == policy
        assert hash(again) == hash(policy)


def test_whole_numbers_of_other_types_make_the_same_policy():
    assert Triangular(np.float32(0.5), 1, 20.0) == Triangular(0.5, 1.0, np.int64(20))
    assert repr(Triangular(np.float32(0.5), 1, 20.0)) == "Triangular(base_lr=0.5, max_lr=1.0, step_size=20)"


def test_a_policy_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot assign to field 'max_lr'"):
        Triangular(0.001, 0.006, 2000).max_lr = 0.1


def test_importing_the_policies_imports_no_library():
    code = """if True:
        import sys
        from clr.policies import Triangular2
        assert Triangular2(0, 1, 10)(30) == 0.5
        loaded = {"torch", "numpy", "pandas", "scipy", "matplotlib"} & sys.modules.keys()
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_written_by_hand_have_their_starts_as_text():
    by_hand = (
        '{"policy": "Stages", "stages": {"0": {"policy": "Fixed", "lr": 0.1}, "70": {"policy": "Fixed", "lr": 1}}}'
    )
    assert from_dict(json.loads(by_hand)) == Stages({0: Fixed(0.1), 70: Fixed(1)})


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("x" * 1000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(policies, st.data())
def test_a_damaged_dict_gives_a_policy_or_one_short_error(policy, data):
    """One place of the JSON, however deep, is replaced, removed or added to."""
    values = json.loads(json.dumps(to_dict(policy)))
    place, key = {"": values}, ""
    while isinstance(place[key], (dict, list)) and place[key] and (key == "" or data.draw(st.booleans())):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    damage = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if damage == "remove":
        del place[key]
    elif damage == "add" and isinstance(place, dict):
        place[data.draw(st.text())] = data.draw(junk)
    else:
        place[key] = data.draw(junk)
    try:
        assert isinstance(from_dict(values), Policy)
    except (TypeError, ValueError) as error:
        message = str(error)
        assert "must" in message and len(message) < 500, message


def test_a_policy_of_ones_own_drives_but_is_not_written_and_takes_no_name_of_ours():
    @dataclass(frozen=True)
    class Triangular(Policy):
        lr: float

        def _rate(self, k):
            return self.lr / (1 + k)

    mine = Triangular(0.5)
    assert mine(np.arange(2)).tolist() == [0.5, 0.25]
    assert type(from_dict(TRIANGULAR)) is POLICIES["Triangular"]
    for policy in (mine, Stages({0: mine})):
        with pytest.raises(TypeError, match="policy must be one of clr's policies, got .*Triangular"):
            to_dict(policy)


def test_names_that_mean_something_in_the_study_alone_are_free_in_a_policy_of_ones_own():
    @dataclass(frozen=True)
    class Mine(Policy):
        init: float
        precision: float
        momentum: float

        def _rate(self, k):
            return self.init / (1 + k)

    assert Mine(0.5, 1e-3, 2.0)(1) == 0.25


# What is refused.

FIXED, TRIANGULAR = to_dict(Fixed(0.1)), to_dict(Triangular(0.1, 0.2, 5))


def test_no_message_is_long():
    for make in (
        lambda: Fixed("x" * 10**6),
        lambda: Fixed(list(range(10**5))),
        lambda: Fixed(0.1)([0] * 10**6),
        lambda: Stages(dict.fromkeys(range(10**5), 0.1)),
        lambda: Stages({k + 1: Fixed(0.1) for k in range(10**5)}),
        lambda: Stages([(k // 2, Fixed(0.1)) for k in range(10**4)]),
        lambda: Triangular(0.1, 0.2, -(10**5000)),
        lambda: from_dict(["x"] * 10**5),
        lambda: from_dict({"policy": "x" * 10**5}),
        lambda: from_dict({"policy": "Fixed", **{f"x{i}": 1 for i in range(10**4)}}),
        lambda: to_dict(Stages({0: Fixed(0.1)}).stages * 10**4),
        lambda: cyclic_learning_rate(5, mode="x" * 10**5),
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            make()
        assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Triangular(0.1, 0.2, 0), ValueError, "step_size must be a positive integer, got 0"),
        (lambda: Triangular(0.1, 0.2, 2.5), ValueError, "step_size must be a positive integer, got 2.5"),
        (lambda: Triangular(0.1, 0.2, math.nan), ValueError, "step_size must be a positive integer, got nan"),
        (lambda: Triangular(0.1, 0.2, math.inf), ValueError, "step_size must be a positive integer, got inf"),
        (lambda: Triangular(0.1, 0.2, "20"), TypeError, "step_size must be a positive integer, got '20'"),
        (lambda: Triangular(0.1, 0.2, True), TypeError, "step_size must be a positive integer, got True"),
        (lambda: Triangular(0.2, 0.1, 20), ValueError, r"max_lr must be at least base_lr \(0.2\), got 0.1"),
        (lambda: Triangular(-0.1, 0.1, 20), ValueError, "base_lr must be a finite number >= 0, got -0.1"),
        (lambda: Triangular(0.1, math.inf, 20), ValueError, "max_lr must be a finite number >= 0, got inf"),
        (lambda: Triangular(math.nan, 0.1, 20), ValueError, "base_lr must be a finite number >= 0, got nan"),
        (lambda: Triangular(None, 0.1, 20), TypeError, "base_lr must be a number, got None"),
        (lambda: Triangular([0.1], 0.1, 20), TypeError, r"base_lr must be a number, got \[0.1\]"),
        (lambda: Fixed(np.array([0.1])), TypeError, r"lr must be a number, got array\(\[0.1\]\)"),
        (lambda: Fixed("0.1"), TypeError, "lr must be a number, got '0.1'"),
        (lambda: Exp(0.1, 0), ValueError, r"gamma must be in \(0, 1\], got 0"),
        (lambda: Exp(0.1, 1.01), ValueError, r"gamma must be in \(0, 1\], got 1.01"),
        (lambda: Exp(0.1, math.nan), ValueError, r"gamma must be in \(0, 1\], got nan"),
        (lambda: Exp(0.1, None), TypeError, "gamma must be a number, got None"),
        (lambda: ExpRange(0.1, 0.2, 20, 0.9, "both"), ValueError, "decays must be 'bounds' or 'amplitude', got 'both'"),
        (lambda: Ramp(0.1, 0.2, 0), ValueError, "iterations must be a positive integer, got 0"),
        (lambda: Ramp(0.1, 0.2, 9, "log"), ValueError, "spacing must be 'linear' or 'exponential', got 'log'"),
        (lambda: Ramp(0, 0.2, 9, "exponential"), ValueError, 'start_lr must be > 0 for spacing="exponential", got 0.0'),
        (lambda: Ramp(0.2, 0, 9, "exponential"), ValueError, 'end_lr must be > 0 for spacing="exponential", got 0.0'),
        (lambda: Stages({}), TypeError, "stages must be a mapping of first iterations to policies, got {}"),
        (lambda: Stages([Fixed(1)]), TypeError, r"stages must be a mapping of first iterations to policies, got \["),
        (lambda: Stages({5: Fixed(1)}), ValueError, "stages must have a policy for iteration 0, got one from 5 on"),
        (lambda: Stages({0: Fixed(1), -5: Fixed(1)}), ValueError, "stages must start at integers >= 0, got -5"),
        (lambda: Stages({0: Fixed(1), 2.5: Fixed(1)}), ValueError, "stages must start at integers >= 0, got 2.5"),
        (lambda: Stages({0: Fixed(1), "5": Fixed(1)}), ValueError, "stages must start at integers >= 0, got '5'"),
        (lambda: Stages({0: 0.1}), TypeError, "stages must hold policies, got 0.1 at 0"),
        (lambda: cyclic_learning_rate(5, mode="exp"), ValueError, "mode must be \"triangular\", .* got 'exp'"),
        (lambda: cyclic_learning_rate(5, learning_rate=-1), ValueError, "learning_rate must be .* got -1"),
        (lambda: cyclic_learning_rate(None), TypeError, "iteration must be an integer, .* got None"),
        (lambda: step_size(0, 100), ValueError, "examples must be a positive integer, got 0"),
        (lambda: step_size(9, batch_size=2.5), ValueError, "batch_size must be a positive integer, got 2.5"),
        (lambda: step_size(9, 3, epochs=0), ValueError, "epochs must be a positive number, got 0"),
        (lambda: step_size(9, 3, epochs="4"), TypeError, "epochs must be a number, got '4'"),
        (lambda: to_dict(0.1), TypeError, "policy must be one of clr's policies, got 0.1"),
        (lambda: Cosine(0.1, 10, 10), ValueError, r"warmup must be less than iterations \(10\), got 10"),
        (lambda: Cosine(0.1, 10, -1), ValueError, "warmup must be an integer >= 0, got -1"),
        (lambda: Cosine(0.1, 10, 0.5), ValueError, "warmup must be an integer >= 0, got 0.5"),
        (lambda: Cosine(0.1, 10, math.inf), ValueError, "warmup must be an integer >= 0, got inf"),
        (lambda: OneCycle(0.2, 0.1, 10), ValueError, r"max_lr must be at least base_lr \(0.2\), got 0.1"),
        (lambda: Stages(((0, Fixed(1)), (0, Fixed(2)))), ValueError, r"one policy per start, got \[0, 0\]"),
        (lambda: from_dict({"policy": "Cos"}), ValueError, "policy must be one of Cosine, Decay, .* got 'Cos'"),
        (lambda: from_dict({"policy": []}), ValueError, r"policy must be one of Cosine, Decay, .* got \[\]"),
        (lambda: from_dict({"lr": 0.1}), ValueError, "policy must be one of Cosine, Decay, .* got None"),
        (lambda: from_dict([0.1]), TypeError, r"values must be a mapping that to_dict wrote, got \[0.1\]"),
        (lambda: from_dict({"policy": "Fixed", "lr": 0.1, "gamma": 1}), ValueError, "must have lr, got lr, gamma"),
        (lambda: from_dict({"policy": "Exp", "base_lr": 0.1}), ValueError, "must have base_lr, gamma, got base_lr"),
        (lambda: from_dict({"policy": "Fixed"}), ValueError, "Fixed must have lr, got nothing"),
        (  # in order, whatever the hash seed: five names in a set would be so in one process of 120
            lambda: from_dict({"policy": "ExpRange"}),
            ValueError,
            "must have base_lr, max_lr, step_size, gamma, decays, got nothing",
        ),
        (lambda: from_dict({"policy": "Stages", "stages": 5}), TypeError, "stages must be a mapping .* got 5"),
        (lambda: from_dict({"policy": "Stages", "stages": [[0]]}), TypeError, r"a mapping .* got \[\[0\]\]"),
        (lambda: from_dict({"policy": "Stages", "stages": [[0, 0.1]]}), TypeError, "a mapping .* got 0.1"),
        (lambda: from_dict({"policy": "Stages", "stages": {"x": FIXED}}), ValueError, "integers >= 0, got 'x'"),
        (lambda: from_dict({"policy": "Stages", "stages": {"5": FIXED}}), ValueError, "for iteration 0, got one from"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("iteration", "error", "message"),
    [
        (-1, ValueError, "iteration must be >= 0, got -1"),
        (np.int8(-3), ValueError, "iteration must be >= 0, got -3"),
        (np.array([[3, -7]]), ValueError, "iteration must be >= 0, got -7"),
        (5.0, TypeError, "iteration must be an integer, or an array or tensor of integers, got 5.0"),
        (True, TypeError, "iteration must be an integer, or an array or tensor of integers, got True"),
        ([1, 2], TypeError, r"iteration must be an integer, or an array or tensor of integers, got \[1, 2\]"),
        (np.float64(5), TypeError, "iteration must be of an integer dtype, got float64"),
        (np.array([5.0]), TypeError, "iteration must be of an integer dtype, got float64"),
        (np.array([True]), TypeError, "iteration must be of an integer dtype, got bool"),
        (torch.tensor(5.0), TypeError, "iteration must be of an integer dtype, got torch.float32"),
        (torch.tensor(True), TypeError, "iteration must be of an integer dtype, got torch.bool"),
    ],
    ids=repr,
)
@each_policy
def test_bad_iterations_are_named(policy, iteration, error, message):
    with pytest.raises(error, match=message):
        policy(iteration)


# torch's CyclicLR: the same where the two agree, pinned where it differs.


def cyclic_lr(*arguments, **options):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return CyclicLR(optimizer, *arguments, cycle_momentum=False, **options)


def torch_rates(updates, *arguments, **options):
    """The rates that torch's CyclicLR has its optimizer use."""
    return rates_of(cyclic_lr(*arguments, **options), updates)


def rates_of(scheduler, updates):
    rates = []
    for _ in range(updates):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize("size", [1, 7, 200])
def test_torch_agrees_on_triangular_and_triangular2_and_the_amplitude_form_of_exp_range(size):
    for policy, options in [
        (Triangular(0.001, 0.006, size), {"mode": "triangular"}),
        (Triangular2(0.001, 0.006, size), {"mode": "triangular2"}),
        (ExpRange(0.001, 0.006, size, 0.999, "amplitude"), {"mode": "exp_range", "gamma": 0.999}),
    ]:
        assert policy(np.arange(1000)) == pytest.approx(torch_rates(1000, 0.001, 0.006, size, **options), rel=1e-11)


def test_torch_agrees_on_a_window_of_ones_own():
    def halved(cycle):
        return 1 / 2 ** (cycle - 1)

    rates = torch_rates(300, 0.001, 0.006, 20, scale_fn=halved)
    assert Triangular2(0.001, 0.006, 20)(np.arange(300)) == pytest.approx(rates, rel=1e-11)


def test_pin_torchs_triangular2_overflows_after_1024_cycles():
    scheduler = cyclic_lr(0.001, 0.006, 1, mode="triangular2")
    for _ in range(2047):
        scheduler.optimizer.step()
        scheduler.step()
    with pytest.raises(OverflowError):
        scheduler.step()
    assert Triangular2(0.001, 0.006, 1)(2048) == 0.001


def test_pin_torchs_exp_range_never_lowers_base_lr():
    lows = slice(0, 40, 10)  # a cycle of ten iterations
    assert torch_rates(40, 0.01, 0.1, 5, mode="exp_range", gamma=0.99)[lows] == pytest.approx(0.01)
    paper = ExpRange(0.01, 0.1, 5, 0.99)(np.arange(40))[lows]
    assert paper == pytest.approx([0.01, 0.00904, 0.00818, 0.0074], abs=5e-6)


def test_pin_torchs_phase_drifts_and_ours_does_not():
    size, cycles = 7, 10**9
    scheduler = cyclic_lr(0.0, 1.0, size)
    scheduler.last_epoch = 2 * size * cycles + 1
    with pytest.warns(UserWarning, match="get_last_lr"):
        (drifted,) = scheduler.get_lr()
    assert abs(drifted * size - 1) > 1e-8
    assert Triangular(0.0, 1.0, size)(2 * size * cycles + 1) == 1 / size


def test_pin_torch_takes_arguments_that_make_no_cycle():
    assert torch_rates(3, 0.2, 0.1, 2)[2] == 0.1  # base_lr above max_lr
    assert torch_rates(3, -0.2, 0.1, 2)[0] == -0.2
    assert torch_rates(100, 0.0, 1.0, 2.5).max() < 0.9  # never at its peak
    with pytest.raises(ZeroDivisionError):
        cyclic_lr(0.1, 0.2, 0)
    with pytest.raises(ValueError, match="mode is invalid"):
        cyclic_lr(0.1, 0.2, 2, mode="exp")
    for arguments in [(0.2, 0.1, 2), (-0.2, 0.1, 2), (0.0, 1.0, 2.5), (0.1, 0.2, 0)]:
        with pytest.raises(ValueError, match="must be"):
            Triangular(*arguments)


def test_every_policy_is_tested_here():
    assert {type(policy) for policy in EXAMPLES} == set(POLICIES.values())


def test_a_stage_is_not_asked_outside_of_its_updates():
    @dataclass(frozen=True)
    class Table(Policy):
        rates: tuple[float, ...]

        def _rate(self, k):
            return self.rates[k]

    stages = Stages({0: Table((0.1, 0.2)), 2: Table((0.3, 0.4, 0.5))})
    assert [stages(k) for k in range(5)] == [0.1, 0.2, 0.3, 0.4, 0.5]
