"""What surrounds CUDA, tried on the CPU with stubs for the device: streams, the gate, a capture that fails."""

import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from clr import training
from clr.policies import Triangular
from clr.training import RunConfig, cuda, machine, train
from clr.training.update import Batches, Update

CONFIG = RunConfig(
    net="Cifar10Quick", policy=Triangular(0.001, 0.01, 10), iterations=9, batch_size=10, pixels="unit", init="torch",
    reshuffle=True, evaluate_every=4, test_pictures=20,
)  # fmt: skip


def assert_same(first, second):
    assert first.rows == second.rows
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


# Devices.


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("mps", r"device must be 'cpu' or a CUDA device \(on MPS torch's gradients are wrong .*\), got 'mps'"),
        ("meta", "device must be 'cpu' or a CUDA device, got 'meta'"),
        ("warp", "device must be one of torch's, such as 'cpu' or 'cuda:0', got 'warp'"),
        (None, "device must be one of torch's, such as 'cpu' or 'cuda:0', got None"),
        ("cuda:7", r"device must be one that torch can see \(2 CUDA devices here\), got 'cuda:7'"),
    ],
)
def test_a_device_that_cannot_train_is_refused_before_training(small, monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=message):
        train(CONFIG, small, device=device)
    assert cuda.check_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("fails", ["device", "Stream"])
def test_a_device_that_fails_leaves_autograd_as_it_was(monkeypatch, fails):
    def fail(*arguments):
        raise RuntimeError("no driver")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, fails, fail)
    monkeypatch.setattr(cuda, "_streams", {})
    before = torch._C._is_multithreading_enabled()
    with pytest.raises(RuntimeError, match="no driver"), cuda.on_device("cuda"):
        pass
    assert torch._C._is_multithreading_enabled() == before


def test_devices_are_named(monkeypatch):
    assert machine.describe_device("cpu").startswith("CPU (")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (138 << 30, 139 << 30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert machine.describe_device("cuda:0") == "cuda:0 (NVIDIA H200, 138 GiB free)"


@pytest.mark.parametrize(("version", "reason"), [("13.2", "too old for CUDA 13.2"), (None, "is built without CUDA")])
def test_a_driver_that_torch_cannot_use_is_named(monkeypatch, version, reason):
    monkeypatch.setattr(machine.os.path, "exists", lambda path: path == "/proc/driver/nvidia/version")
    monkeypatch.setattr(torch.version, "cuda", version)
    assert reason in machine.describe_device("cpu")


def test_a_result_on_cuda_names_the_device_and_cudnn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91_900)
    on_cuda, on_cpu = machine.provenance("cuda:0", 1), machine.provenance("cpu", 1)
    assert (on_cuda["device"], on_cuda["cudnn"]) == ("NVIDIA H200", 91_900)
    assert on_cpu["device"] != "NVIDIA H200" and "cudnn" not in on_cpu


@pytest.fixture(scope="module")
def seen_by_a_module():
    return torch.cuda.is_available(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_what_a_module_of_tests_prepares_sees_no_cuda(seen_by_a_module):
    assert seen_by_a_module == (False, "")


@pytest.mark.cuda
def test_a_test_of_cuda_sees_what_there_is():
    assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != "" or torch.cuda.device_count() == 0


# Streams.


@pytest.fixture
def streams(monkeypatch):
    """Streams as torch hands them out: four, in turn."""
    made = [SimpleNamespace(cuda_stream=i, synchronize=lambda: None) for i in range(4)]
    asked = iter(range(100))
    monkeypatch.setattr(torch.cuda, "Stream", lambda index: made[next(asked) % 4])
    monkeypatch.setattr(cuda, "STREAMS", 10)
    monkeypatch.setattr(cuda, "_streams", {})
    return made


def test_no_two_threads_have_one_stream_and_the_fifth_of_four_waits(streams):
    taken, most, lock = [], [], threading.Lock()

    def compute(_):
        with cuda._own_stream("cuda:0") as stream:
            with lock:
                taken.append(stream.cuda_stream)
                most.append(len(taken))
                assert len(taken) == len(set(taken))
            time.sleep(0.002)
            with lock:
                taken.remove(stream.cuda_stream)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(compute, range(60)))
    assert max(most) == 4


def test_a_stream_is_given_back_after_an_error(streams):
    for _ in range(9):
        with pytest.raises(ZeroDivisionError), cuda._own_stream("cuda:0"):
            raise ZeroDivisionError


# The gate.


def test_who_is_alone_is_alone_and_is_not_kept_waiting_by_those_who_share():
    gate, inside, lock, together = cuda.Gate(), [], threading.Lock(), []

    def enter(i):
        alone = i % 7 == 0
        with gate.alone() if alone else gate.shared():
            with lock:
                inside.append(alone)
                together.append(len(inside))
                assert not any(inside) or inside == [True]
            time.sleep(0.001)
            with lock:
                inside.remove(alone)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(enter, range(200)))
    assert max(together) > 1  # others do share

    stop, got = threading.Event(), []

    def share():
        while not stop.is_set():
            with gate.shared():
                time.sleep(0.001)

    threads = [threading.Thread(target=share) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with gate.alone():
            got.append(True)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(got) == 20


@pytest.fixture
def as_cuda(monkeypatch):
    """Training on the CPU that passes the gate as on CUDA; a new gate, which is returned."""
    monkeypatch.setattr(cuda, "_gate", cuda.Gate())
    monkeypatch.setattr(cuda, "_is_cuda", lambda device: True)
    return cuda._gate


def test_ten_runs_pass_the_gate_with_all_that_they_do_on_the_device(small, as_cuda, monkeypatch):
    """Uploads, updates and evaluations inside; first updates and captures alone."""
    seen, alone = set(), []

    def inside(owner, name):
        method = getattr(owner, name)

        def checked(*arguments, **options):
            assert as_cuda._sharing or as_cuda._taken
            seen.add((name, as_cuda._taken))
            return method(*arguments, **options)

        monkeypatch.setattr(owner, name, checked)

    def capture(work):
        assert as_cuda._taken and not as_cuda._sharing
        alone.append(True)

    start = Update.__init__

    def with_graph(update, *arguments):
        start(update, *arguments)
        update.use_graph = True

    configs = [dataclasses.replace(CONFIG, seed=seed) for seed in range(10)]
    whole = [train(config, small) for config in configs[:3]]
    monkeypatch.setattr(Update, "__init__", with_graph)
    monkeypatch.setattr(cuda, "capture", capture)
    for owner, name in [
        (Update, "_eager_update"),
        (Batches, "_normalize"),
        (training.run, "_net"),
        (Update, "__init__"),
    ]:
        inside(owner, name)
    with machine.cpu_threads(1), ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(lambda config: train(config, small), configs))
    assert len(alone) == 10
    assert seen == {
        ("_eager_update", True), ("_eager_update", False), ("_normalize", True), ("_normalize", False),
        ("_net", False), ("__init__", False),
    }  # fmt: skip
    for run, expected in zip(runs, whole, strict=False):
        assert_same(run, expected)


# Captures.


@pytest.fixture
def failing_graph(monkeypatch):
    """A device whose captures fail half-way, after the update's Python has run."""
    work = []

    @contextmanager
    def graph(graph, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        work.append(graph)
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be reported")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "graph")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return work


def test_a_run_whose_capture_fails_warns_once_and_continues_with_the_same_bits(small, failing_graph, monkeypatch):
    whole, start = train(CONFIG, small), Update.__init__

    def with_graph(update, *arguments):
        start(update, *arguments)
        update.use_graph = True

    monkeypatch.setattr(Update, "__init__", with_graph)
    message = r"no CUDA graph \(operation not permitted when stream is capturing\); the run continues without one"
    with pytest.warns(UserWarning, match=message) as warned:
        assert_same(train(CONFIG, small), whole)
    assert len(warned) == len(failing_graph) == 1


def test_graphs_can_be_switched_off(monkeypatch):
    assert cuda.use_graphs()
    for value, use in {"0": False, "1": True}.items():
        monkeypatch.setenv("CLR_CUDA_GRAPHS", value)
        assert cuda.use_graphs() is use
    monkeypatch.setenv("CLR_CUDA_GRAPHS", "no")
    with pytest.raises(ValueError, match="CLR_CUDA_GRAPHS must be 0 or 1, got 'no'"):
        cuda.use_graphs()


# Memory.


def test_runs_of_a_process_share_their_images(small):
    first, second = (training.run._batches(dataclasses.replace(CONFIG, seed=seed), small, "cpu") for seed in (0, 1))
    other = training.run._batches(dataclasses.replace(CONFIG, test_pictures=30), small, "cpu")
    assert first.train_set is second.train_set is other.train_set
    assert first.test_set is second.test_set
    assert len(other.test_set.labels) == 30


def test_images_are_freed_with_the_last_run_that_uses_them(small):
    from clr.training import update

    batches = training.run._batches(CONFIG, small, "cpu")
    assert len(update._residents[small]) >= 1
    del batches
    assert len(update._residents[small]) == 0
