"""The policies in a Keras schedule; on JAX, or on what KERAS_BACKEND names."""

import os

import numpy as np
import page
import pytest

import clr

os.environ.setdefault("KERAS_BACKEND", "jax")  # which is only read when Keras is imported
pytest.importorskip(os.environ["KERAS_BACKEND"], reason="Keras's backend is not installed")
keras = pytest.importorskip("keras", reason="Keras is not installed")

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"  # Keras's variables
)
POLICY = clr.Triangular(0.01, 0.1, 5)


@pytest.fixture(scope="module")
def names():
    """The names of the page; a module's, as Keras registers a class once."""
    return page.run("Keras", policy=POLICY, updates=24)


def model(optimizer):
    """A net with one weight, whose gradient is -1."""
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    net.compile(optimizer, loss="mean_absolute_error")
    return net


class Weights(keras.callbacks.Callback):
    """Note the one weight after each update."""

    def on_train_begin(self, logs=None):
        self.seen = [self.model.get_weights()[0].item()]

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.get_weights()[0].item())


def steps(net, updates):
    """Make updates; return how far each moved the weight."""
    weights = Weights()
    inputs, targets = np.ones((updates, 1), np.float32), np.full((updates, 1), 100, np.float32)
    net.fit(inputs, targets, batch_size=1, verbose=0, callbacks=[weights])
    return np.diff(weights.seen)


def test_every_update_has_the_policys_rate_and_a_resume_changes_nothing(names, tmp_path):
    whole, half = (model(keras.optimizers.SGD(names.PolicySchedule(POLICY, 24))) for _ in range(2))
    moved = steps(half, 13)
    half.save(tmp_path / "half.keras")
    moved = np.r_[moved, steps(keras.models.load_model(tmp_path / "half.keras"), 11)]
    assert moved == pytest.approx(POLICY(np.arange(24)), rel=1e-5)
    assert moved.tolist() == steps(whole, 24).tolist()


def test_after_its_end_the_table_goes_on_with_its_last_rate(names):
    assert [float(names.PolicySchedule(POLICY, 4)(step)) for step in (3, 4, 40)] == [np.float32(POLICY(3))] * 3


@pytest.mark.skipif(os.environ["KERAS_BACKEND"] == "tensorflow", reason="TensorFlow's tensors lack the arithmetic")
def test_a_policy_of_keras_tensors_gives_the_rates():
    class Direct(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return POLICY(keras.ops.convert_to_tensor(step))

    assert steps(model(keras.optimizers.SGD(Direct())), 24) == pytest.approx(POLICY(np.arange(24)), rel=1e-5)


def test_the_optimizer_of_the_page_has_the_rates_too(names):
    net = model(names.optimizer)
    for k in range(12):
        assert float(net.optimizer.learning_rate) == pytest.approx(POLICY(k), rel=1e-6)
        steps(net, 1)
