"""The policies as optax schedules, on JAX with floats of 32 and of 64 bits."""

import pickle

import numpy as np
import page
import pytest
from test_policies import each_policy

import clr

jax = pytest.importorskip("jax", reason="JAX is not installed")
optax = pytest.importorskip("optax", reason="optax is not installed")

POLICY = clr.Triangular(0.01, 0.1, 5)
WIDTHS = pytest.mark.parametrize(("wide", "precision"), [(False, 3e-6), (True, 1e-14)], ids=["32 bits", "64 bits"])


@WIDTHS
@each_policy
def test_a_traced_iteration_gives_the_rate(policy, wide, precision):
    with jax.enable_x64(wide):
        traced = jax.jit(policy)(jax.numpy.arange(120))
        alone = jax.jit(policy)(jax.numpy.asarray(37))
    assert np.asarray(traced, float) == pytest.approx(policy(np.arange(120)), rel=precision, abs=0)
    assert float(alone) == pytest.approx(policy(37), rel=precision, abs=0)


def test_joined_schedules_are_stages_and_refuse_a_plain_int_before_a_part_begins():
    parts = clr.Triangular(0.01, 0.1, 5), clr.Decay(0.0, 0.01, 10)
    joined, stages = optax.join_schedules(parts, [20]), clr.Stages(dict(zip((0, 20), parts, strict=True)))
    rates = [float(joined(jax.numpy.asarray(k))) for k in range(40)]
    assert rates == pytest.approx(stages(np.arange(40)), rel=1e-5, abs=1e-9)
    with pytest.raises(ValueError, match="iteration must be >= 0, got -17"):
        joined(3)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_counters_of_few_bits_or_no_sign_do_not_wrap_around(dtype):
    policy = clr.Triangular(0.01, 0.1, 500)
    rates = jax.jit(policy)(jax.numpy.arange(120, dtype=dtype))
    assert np.asarray(rates, float) == pytest.approx(policy(np.arange(120)), rel=1e-6)


def steps(optimizer, number, state=None):
    """Make updates of a weight whose gradient is 1; return what each took away, and the state."""
    weight = jax.numpy.zeros((), float)
    state = optimizer.init(weight) if state is None else state
    taken = []
    for _ in range(number):
        update, state = jax.jit(optimizer.update)(jax.numpy.ones_like(weight), state)
        taken.append(-update.item())
    return taken, state


@WIDTHS
def test_every_update_has_the_policys_rate_and_a_resume_changes_nothing(wide, precision):
    with jax.enable_x64(wide):
        whole, _ = steps(page.run("optax", policy=POLICY).optimizer, 24)
        half, state = steps(page.run("optax", policy=POLICY).optimizer, 13)
        again, _ = steps(page.run("optax", policy=POLICY).optimizer, 11, pickle.loads(pickle.dumps(state)))
    assert whole == pytest.approx(POLICY(np.arange(24)).tolist(), rel=precision)
    assert half + again == whole


@pytest.mark.parametrize("policy", [POLICY, clr.Exp(0.1, 0.99994)], ids=str)
def test_a_table_is_right_to_the_last_bit_and_ends_with_its_last_rate(policy):
    taken, _ = steps(page.run("optax", 1, policy=policy, updates=24).optimizer, 26)
    assert taken == policy(np.r_[:24, 23, 23]).astype(np.float32).tolist()


def test_pin_powers_of_gamma_drift_in_32_bits():
    policy = clr.Exp(0.001, 0.99994)
    assert float(jax.jit(policy)(70_000)) / policy(70_000) - 1 == pytest.approx(-0.0015, rel=0.05)
