"""The update: what is captured on CUDA, and that it is what the CPU does."""

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import golden_data as golden
import numpy as np
import pytest
import torch
from short_run import assert_same
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clr import training
from clr.data import synthetic_cifar10
from clr.nets import RESNETS
from clr.optim import CaffeSGD
from clr.policies import Triangular
from clr.training import RunConfig, train
from clr.training.float32 import exact_float32
from clr.training.update import Update

CONFIG = RunConfig(
    net="Cifar10Quick", policy=Triangular(0.001, 0.01, 10), iterations=25, batch_size=100, pixels="unit", init="torch",
    reshuffle=True, evaluate_every=1, test_pictures=100,
)  # fmt: skip
NETS = ["Cifar10Quick", "Cifar10Full", "Cifar10FullSigmoidBN", "Cifar10ResNet8"]
RESIDUAL = {"init": "he", "mults": False, "optimizer": "Nesterov"}


def on_cuda(question):
    """Skip a test where there is no CUDA device, which alone can answer the question."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason=f"no CUDA device to settle {question}")
    return lambda test: pytest.mark.cuda(skip(test))


def changed(**values):
    own = RESIDUAL if values.get("net") in RESNETS else {}
    return dataclasses.replace(CONFIG, **own | values)


class Graph(TorchDispatchMode):
    """In place of a CUDA graph: the operators made inside, to be made again on the same memory, without any Python."""

    def __init__(self):
        super().__init__()
        self.made, self.replays = [], 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        assert operator is not torch.ops.aten._local_scalar_dense.default, "a number on its way to the host"
        out = operator(*args, **(kwargs or {}))
        own = [returned.alias_info is None for returned in operator._schema.returns]  # not a view, nor in place
        outs = out if isinstance(out, tuple) else (out,)
        self.made.append((operator, args, kwargs or {}, outs, own))
        return out

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for operator, args, kwargs, outs, own in self.made:
            again = operator(*args, **kwargs)
            for old, new, is_own in zip(outs, again if isinstance(again, tuple) else (again,), own, strict=False):
                for place, value in zip(tree_leaves(old), tree_leaves(new), strict=True):
                    if is_own and torch.is_tensor(place):
                        place.copy_(value)


def capture(update):
    """Record the update as `Update._capture` does. This also makes it, so put back what it changed."""
    update.optimizer.zero_grad()
    velocities = [state["velocity"] for state in update.optimizer.state.values()]
    changing = [*update.net.state_dict().values(), *velocities, *update.lr.values(), update.losses, update.k]
    before = [tensor.detach().clone() for tensor in changing]
    with Graph() as update.graph:
        update._eager_update()
    with torch.no_grad():
        for tensor, value in zip(changing, before, strict=True):
            tensor.copy_(value)


PASSES = [*((net, "float32") for net in NETS), ("Cifar10Full", "bfloat16")]


@pytest.mark.parametrize(("net", "precision"), PASSES)
def test_update_needs_nothing_from_the_host_but_an_epochs_order(monkeypatch, net, precision):
    """Warm-up, operators recorded once, then nothing but replays and a new order each epoch: the same bits."""
    config = changed(net=net, precision=precision, batch_size=50, evaluate_every=4, iterations=12)
    data = synthetic_cifar10(train=250, test=100)
    plain, made = train(config, data), []
    build = Update.__init__

    def start(update, *arguments):
        build(update, *arguments)
        update.use_graph = True

    def captured(update):
        capture(update)
        made.append((update.updates_done, update.graph))

    monkeypatch.setattr(Update, "__init__", start)
    monkeypatch.setattr(Update, "_capture", captured)
    assert_same(train(config, data), plain)
    [(after, graph)] = made
    assert (after, graph.replays) == (3, 9)


def test_torchs_optimizers_take_the_rate_from_the_host(small):
    config = changed(optimizer="Adam", iterations=4, evaluate_every=2, batch_size=20)
    net = training.run._net(config, "cpu")
    optimizer = training.run._optimizer(config, net)
    update = Update(net, optimizer, training.run._batches(config, small, "cpu"), [0.1, 0.2], 0, 2)
    update()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1 * g["lr_mult"] for g in optimizer.param_groups]
    assert not update.rate_on_device


@on_cuda("whether a replayed graph has the bits of the same update uncaptured")
@pytest.mark.parametrize("every", [1, 8])  # 8: seven replays are under way at once
@pytest.mark.parametrize(("net", "precision"), PASSES)
def test_captured_run_has_the_bits_of_an_uncaptured_one(small, monkeypatch, net, precision, every):
    config = changed(net=net, precision=precision, batch_size=50, evaluate_every=every)
    captured = train(config, small, device="cuda")
    monkeypatch.setattr(Update, "WARM_UP", 10**9)
    assert_same(train(config, small, device="cuda"), captured)


@on_cuda("whether 1e-4 is wide enough: cuDNN may choose Winograd or FFT for 5 x 5")
@pytest.mark.parametrize("net", NETS)
def test_first_twenty_losses_on_cuda_are_those_of_the_cpu(small, net):
    config = changed(net=net, iterations=20)
    ours, cpu = train(config, small, device="cuda"), train(config, small)
    losses = [[row["train_loss"] for row in run.rows] for run in (ours, cpu)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@on_cuda("whether captures bear the uploads, evaluations and replays of other threads")
def test_runs_side_by_side_in_threads_have_the_bits_of_runs_alone():
    data = synthetic_cifar10(train=2000, test=100)
    configs = [changed(seed=seed, evaluate_every=10, iterations=200, net=net) for seed in range(3) for net in NETS]
    configs += [changed(seed=seed, evaluate_every=10, iterations=200, optimizer="Adam") for seed in range(3)]
    alone = [train(config, data, device="cuda") for config in configs]
    with exact_float32(), ThreadPoolExecutor(5) as pool:  # fewer threads than runs: some end while others capture
        together = list(pool.map(lambda config: train(config, data, device="cuda"), configs))
    for first, second in zip(alone, together, strict=True):
        assert_same(first, second)


@on_cuda("whether a resumed run has the bits of an undisturbed one there")
def test_resumed_run_on_cuda_has_the_bits_of_an_undisturbed_one(small, tmp_path, monkeypatch):
    config = changed(batch_size=50, evaluate_every=8)
    whole = train(config, small, device="cuda")
    monkeypatch.setattr(training.checkpoint, "SECONDS", 0.0)
    stopped = []

    def stop(iteration):
        if iteration == 16:
            stopped.append(iteration)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, small, device="cuda", checkpoint=tmp_path / "c", progress=stop)
    resumed = train(config, small, device="cuda", checkpoint=tmp_path / "c")
    assert stopped and resumed.rows[: len(whole.rows)] == whole.rows


@on_cuda("whether cuDNN's float32 agrees with Caffe to 1e-4")
@pytest.mark.parametrize("name", golden.NETS)
def test_losses_on_cuda_agree_with_caffe(name):
    caffe = golden.small(f"{name}/")
    rates = Triangular(caffe["base_lr"], caffe["max_lr"], caffe["stepsize"])(np.arange(20))
    net = golden.NETS[name]()
    golden.set_blobs(net, golden.small_weights(net))
    net.to("cuda", memory_format=torch.channels_last)
    data = [(x.cuda(), labels.cuda()) for x, labels in golden.batches(*golden.small_pictures())]
    with exact_float32():
        losses = golden.train(net, CaffeSGD(net.param_groups(), lr=1.0), data, rates)
    assert losses == pytest.approx(caffe["loss"], rel=1e-4)


def test_a_run_imports_neither_torchs_compiler_nor_matplotlib():
    """Each takes about a second, and torch's optimizers import the compiler at their first call."""
    code = """if True:
        import sys
        import clr.__main__
        from clr.data import synthetic_cifar10
        from clr.policies import Fixed
        from clr.training import RunConfig, train
        train(RunConfig("Cifar10Quick", Fixed(0.01), 2, batch_size=10), synthetic_cifar10(20, 20))
        print("torch._dynamo" in sys.modules, "matplotlib" in sys.modules)
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


class Layouts(TorchDispatchMode):
    """The operators of a backward pass whose images lie in two memory layouts."""

    def __init__(self):
        super().__init__()
        self.mixed = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        images = [x for x in args if isinstance(x, torch.Tensor) and x.dim() == 4 and min(x.shape[1:]) > 1]
        if "backward" in str(operator):
            self.mixed += [str(operator) for x in images if not x.is_contiguous(memory_format=torch.channels_last)]
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("net", NETS)
def test_gradients_keep_the_layout_of_the_images(small, net):
    config = changed(net=net, iterations=2, batch_size=10)
    model = training.run._net(config, "cpu")
    optimizer, batches = training.run._optimizer(config, model), training.run._batches(config, small, "cpu")
    update = Update(model, optimizer, batches, [0.1, 0.2], 0, 2)
    with Layouts() as layouts:
        update()
    assert layouts.mixed == []
