"""bfloat16: the first updates are float32's within its rounding, weights stay float32, and a slow one is refused."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from short_run import CONFIG, changed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clr import experiments, paths
from clr.experiments import EXPERIMENTS, catalogue
from clr.experiments.queue import Row
from clr.experiments.study import Study
from clr.nets import Cifar10Quick, WithinChannelLRN
from clr.policies import Fixed
from clr.results import ResultError
from clr.training import config as configs
from clr.training import precision, train
from clr.training.update import Batches, Update

ROUNDING = torch.finfo(torch.bfloat16).eps  # 1/128
NETS = {
    "Cifar10Quick": {},
    "Cifar10Full": {"mults": True},
    "Cifar10FullSigmoidBN": {"mults": True},
    "Cifar10ResNet8": {"init": "he", "optimizer": "Nesterov", "weight_decay": 1e-4},
}


def parameters(run):
    return torch.cat([v.double().flatten() for n, v in run.weights.items() if "running" not in n and "num_b" not in n])


@pytest.mark.parametrize("net", NETS)
def test_the_first_updates_are_those_of_float32_within_bfloat16s_rounding(small, net):
    """Both move alike: apart by at most eight roundings of how far they moved."""
    exact = changed(net=net, policy=Fixed(0.01), iterations=2, evaluate_every=1, **NETS[net])
    start, full, half = (
        train(dataclasses.replace(exact, **values), small)
        for values in ({"policy": Fixed(0.0)}, {}, {"precision": "bfloat16"})
    )
    moved = (parameters(full) - parameters(start)).norm()
    apart = (parameters(full) - parameters(half)).norm() / moved
    assert 0 < apart < 8 * ROUNDING
    for row, other in zip(full.rows, half.rows, strict=True):
        assert other["lr"] == row["lr"]
        for name in ("train_loss", "test_loss"):
            assert other[name] == pytest.approx(row[name], rel=ROUNDING)


class Types(TorchDispatchMode):
    """The types of the tensors that convolutions and products take."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if any(name in str(operator) for name in ("convolution", "addmm", "mm.default")):
            self.seen |= {x.dtype for x in tree_leaves(args) if isinstance(x, torch.Tensor) and x.is_floating_point()}
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_convolutions_and_products_are_in_the_precision_and_all_that_is_kept_in_float32(small, name, dtype):
    net = Cifar10Quick("torch").to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.param_groups(), lr=0.1, momentum=0.9)
    batches = Batches(small, "cpu", 20, 0, "unit", True, 100)
    update = Update(net, optimizer, batches, [0.1], 0, 1, precision=name)
    with Types() as types:
        update()
        batches.evaluate(net, precision=name)
    assert types.seen == {dtype}
    kept = [*net.parameters(), *(p.grad for p in net.parameters()), update.losses, update.rates]
    kept += [state["momentum_buffer"] for state in optimizer.state.values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_lrn_computes_its_gradient_in_float32(small):
    lrn, x = WithinChannelLRN(3, alpha=0.5), torch.randn(2, 4, 8, 8)
    halves = [tensor.bfloat16().requires_grad_() for tensor in (x, x)]
    wide = halves[1].detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, exact = lrn(halves[0]), lrn(wide)
    grad = torch.randn_like(y)
    y.backward(grad)
    exact.backward(grad.float())
    assert torch.equal(y, exact.bfloat16()) and torch.equal(halves[0].grad, wide.grad.bfloat16())


def test_a_stored_config_without_precision_is_float32s_and_another_precision_is_another_run():
    stored = CONFIG.to_dict()
    del stored["precision"]
    assert configs.RunConfig.from_dict(stored) == CONFIG
    record = {"config": stored, "data": {}}
    configs.require_same_run(paths.home(), record, {"config": CONFIG.to_dict(), "data": {}})
    with pytest.raises(ResultError, match=r"config\.precision is 'float32', asked for 'bfloat16'"):
        configs.require_same_run(paths.home(), record, {"config": changed(precision="bfloat16").to_dict(), "data": {}})
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bfloat16', got 'half'"):
        changed(precision="half")


def test_a_slow_bfloat16_is_refused_before_training_with_a_way_to_insist(small, monkeypatch):
    monkeypatch.setattr(precision, "_slowdown", lambda: 11.4)
    config = changed(precision="bfloat16", iterations=1)
    train(config, small)
    monkeypatch.delenv("CLR_SLOW_BFLOAT16")
    with pytest.raises(
        precision.SlowPrecisionError, match=r"takes 11.4 times as long .* set CLR_SLOW_BFLOAT16=1 to run anyway"
    ):
        train(config, small)
    train(changed(iterations=1), small)  # float32 asks nothing


def test_a_fast_bfloat16_is_taken(small, monkeypatch):
    monkeypatch.delenv("CLR_SLOW_BFLOAT16")
    monkeypatch.setattr(precision, "_slowdown", lambda: 0.8)
    precision.check_fast("bfloat16", "cpu")


@pytest.mark.parametrize(("times", "slow"), [(2.0, False), (2.1, True)])
def test_twice_as_long_is_slow(monkeypatch, times, slow):
    monkeypatch.delenv("CLR_SLOW_BFLOAT16")
    monkeypatch.setattr(precision, "_slowdown", lambda: times)
    with pytest.raises(precision.SlowPrecisionError) if slow else contextlib.nullcontext():
        precision.check_fast("bfloat16", "cpu")


def test_the_measurement_is_a_ratio_of_times():
    assert 0.01 < precision._slowdown() < 100


def test_the_measurement_is_of_the_first_layer_on_one_thread_without_its_first_round(monkeypatch):
    seconds = {"float32": [100, 1, 2, 3, 4, 50], "bfloat16": [100, 1, 5, 9, 10, 150]}
    clock, layers = [7.0], []

    def scores(layer, images, kind):
        assert images.shape == (20, 3, 32, 32) and torch.get_num_threads() == 1
        assert (layer.weight.shape, layer.padding) == ((32, 3, 5, 5), (2, 2))
        clock[0] += seconds[kind].pop(0)
        layers.append(layer)
        return layer(images)

    monkeypatch.setattr(precision, "scores", scores)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    assert precision._slowdown.__wrapped__() == 9 / 3
    assert seconds == {"float32": [], "bfloat16": []} and layers[0].weight.grad is not None


@pytest.fixture
def trial(monkeypatch):
    arms = {"short": changed(iterations=2, evaluate_every=2, test_pictures=20)}
    monkeypatch.setitem(EXPERIMENTS, "trial", catalogue.Experiment("trial", "Does it run?", arms))
    full = dataclasses.replace(experiments.SCALES["full"], test_pictures=20)
    monkeypatch.setitem(experiments.SCALES, "full", full)


def test_runs_in_another_precision_are_kept_apart(small, trial):
    data = dataclasses.replace(small, name="cifar10")
    experiments.run("trial", 1, data=data, n_jobs=1)
    frame = experiments.run("trial", 1, data=data, n_jobs=1, precision="bfloat16")
    home = paths.home()
    folders = {path.relative_to(home).parents[3].as_posix() for path in home.rglob("seed-0.csv")}
    assert folders == {"results", "runs/cifar10-full-bfloat16/results"}
    assert frame["iteration"].tolist() == [2]
    study = Study(precision="bfloat16")
    assert (study.name, study.root.parent.name) == ("cifar10", "cifar10-full-bfloat16")
    assert study.status() == "Scale full, bfloat16, data set cifar10. Finished:\n\n- `trial`, 1 of 5 runs: Does it run?"
    assert study.command("trial") == "python -m clr run trial --precision bfloat16"


def test_the_experiment_on_precision_is_its_own_and_the_headlines_start():
    assert experiments.kept_apart("precision", "bfloat16") is None
    assert experiments.kept_apart("headline", "bfloat16") == "bfloat16"
    assert experiments.kept_apart("headline", "float32") is experiments.kept_apart("headline", None) is None
    for arm, config in EXPERIMENTS["precision"].arms.items():
        own = EXPERIMENTS["headline"].arms[arm]
        assert dataclasses.replace(config, iterations=own.iterations, precision="float32") == own
        assert np.array_equal(config.policy(np.arange(20_000)), own.policy(np.arange(20_000)))


def test_the_queue_leaves_out_what_is_slow_here(small, trial, monkeypatch, capsys):
    monkeypatch.delenv("CLR_SLOW_BFLOAT16")
    monkeypatch.setattr(precision, "_slowdown", lambda: 11.4)
    slow = {"half": changed(iterations=2, evaluate_every=2, test_pictures=20, precision="bfloat16")}
    monkeypatch.setitem(EXPERIMENTS, "slow", catalogue.Experiment("slow", "Is it slow?", slow))
    data = dataclasses.replace(small, name="cifar10")
    rows = [Row("slow", ("*",), 1), Row("trial", ("*",), 1)]
    experiments.run_queue(data=data, n_jobs=1, rows=rows)
    assert [path.parts[-3] for path in paths.home().rglob("seed-0.csv")] == ["trial"]
    assert "queue: slow is left out: precision must be 'float32' here" in capsys.readouterr().err
