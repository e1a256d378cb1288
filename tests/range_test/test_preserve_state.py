"""What is put back, one by one: tensors of any layout, collections, what functions refer to, loaders, generators."""

import random
from collections import deque
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, Dataset, Sampler
from toys import flat

from clr.range_test import restore
from clr.range_test.randomness import GENERATORS, keep_generator, parts, preserve_rng
from clr.range_test.restore import preserve_state


class Holder(nn.Module):
    """A module that holds one thing."""

    def __init__(self, held):
        super().__init__()
        self.held = held


def put_back(held, change):
    """Return what a module holds after `change` was called on it and it was put back."""
    model = Holder(held)
    with preserve_state({"model": model}, []):
        change(model)
    assert model.held is held
    return model.held


# Tensors.


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).T,
        torch.arange(1.0, 4.0).as_strided((1, 3), (0, 1)),  # one row, whose step is 0
        torch.ones(0, 3),
        torch.tensor(3.0),
        torch.arange(6.0)[::2],
        torch.tensor([True, False]),
        torch.eye(2).to_sparse(),
        nn.Parameter(torch.eye(2).to_sparse()),
    ],
    ids=["transposed", "one-row", "empty", "scalar", "strided", "bool", "sparse", "sparse-parameter"],
)
def test_a_tensor_comes_back_whatever_its_layout(tensor):
    before = tensor.to_dense().tolist()
    model = Holder(tensor)
    with preserve_state({"model": model}, []):
        with torch.no_grad():
            tensor.zero_()
        model.held = None
    assert model.held is tensor and tensor.to_dense().tolist() == before


@pytest.mark.parametrize("size", [2, 5])
def test_an_expanded_tensor_into_which_nothing_can_be_written_is_left_alone(size):
    expanded = torch.ones(1).expand(size)
    assert put_back(expanded, lambda model: None).tolist() == [1.0] * size


def test_a_tensor_that_was_resized_or_given_other_data_is_as_long_as_before():
    tensor = torch.arange(3.0)
    storage = tensor.data_ptr()
    put_back(tensor, lambda model: setattr(tensor, "data", torch.zeros(7)))
    assert tensor.tolist() == [0, 1, 2] and tensor.data_ptr() == storage


def test_gradients_are_set_aside_and_come_back_as_they_were():
    model = nn.Linear(2, 1)
    gradient = model.weight.grad = torch.ones(1, 2)
    with preserve_state({"model": model}, []):
        assert model.weight.grad is None
        model(torch.ones(3, 2)).sum().backward()
    assert model.weight.grad is gradient and gradient.tolist() == [[1, 1]] and model.bias.grad is None


# Collections.


@pytest.mark.parametrize(
    ("held", "change"),
    [
        ([1, 2], lambda held: held.append(3)),
        ([1, 2], lambda held: held.clear()),
        (deque([1, 2], 2), lambda held: held.append(3)),
        ({1, 2}, lambda held: held.add(3)),
        ({1, 2}, lambda held: held.remove(1)),
        ({"a": 1}, lambda held: held.update(a=2, b=3)),
        ({"a": 1}, lambda held: held.clear()),
        (np.arange(3), lambda held: held.fill(7)),
        ({"a": [{"b": [1]}]}, lambda held: held["a"][0]["b"].append(2)),
        (([1], [2]), lambda held: held[1].append(3)),
    ],
    ids=lambda value: type(value).__name__ if not callable(value) else "",
)
def test_a_collection_comes_back_with_what_it_held(held, change):
    before = repr(held)
    assert repr(put_back(held, lambda model: change(model.held))) == before


def test_tensors_in_collections_come_back():
    tensors = [torch.zeros(2) for _ in range(5)]
    a, b, c, d, e = tensors
    held = {"list": [a], "tuple": (b,), "set": {c}, ("a", "key"): deque([d]), 5: e}
    put_back(held, lambda model: [tensor.add_(1) for tensor in tensors])
    assert not any(tensor.any() for tensor in tensors)


def test_a_set_that_has_not_changed_is_not_touched():
    class Counted(set):
        cleared = 0

        def clear(self):
            self.cleared += 1
            super().clear()

    held = Counted({1})
    put_back(held, lambda model: None)
    assert held.cleared == 0
    put_back(held, lambda model: model.held.add(2))
    assert held == {1}


def test_an_array_that_is_read_only_is_left_alone():
    array = np.arange(3)
    array.flags.writeable = False
    assert put_back(array, lambda model: None).tolist() == [0, 1, 2]


def test_what_holds_itself_is_looked_at_once():
    held = []
    held.append(held)
    put_back(held, lambda model: held.append(1))
    assert len(held) == 1


# What functions refer to.

AVERAGE = nn.Linear(1, 1)


def of_this_module(x):
    return AVERAGE(x)


def made_functions(module):
    """Return functions of some kinds that refer to a module."""
    functions = {
        "closure": lambda x: module(x),
        "method": module.forward,
        "partial of it": partial(print, module),
        "partial by name": partial(print, key=module),
        "partial of its method": partial(module.forward),
        "partial of a closure": partial(lambda x: module(x)),
        "beside a name that is not there yet": lambda x: (module(x), later),
    }
    if module is None:
        later = None
    return functions


@pytest.mark.parametrize("kind", made_functions(nn.Linear(1, 1)))
def test_a_module_that_a_function_refers_to_comes_back(kind):
    module = nn.Linear(1, 1)
    before = flat(module.state_dict())
    with preserve_state({"loss_fn": made_functions(module)[kind]}, []):
        nn.init.constant_(module.weight, 7)
    assert flat(module.state_dict()) == before


def test_a_module_of_the_functions_file_comes_back():
    before = flat(AVERAGE.state_dict())
    with preserve_state({"loss_fn": of_this_module}, []):
        nn.init.constant_(AVERAGE.weight, 7)
    assert flat(AVERAGE.state_dict()) == before


# What cannot be put back.


class Stubborn(list):
    def clear(self):
        raise RuntimeError("not me")


def test_what_cannot_be_restored_has_the_name_by_which_one_finds_it():
    model = nn.Sequential(nn.Linear(1, 1), Holder([0, Stubborn()]))
    model[1].table = {"a": Stubborn(), ("b", 1): Stubborn()}
    with pytest.raises(RuntimeError) as raised, preserve_state({"model": model}, []):
        nn.init.constant_(model[0].weight, 7)
    names = "model.1.held[1], model.1.table.a, model.1.table"
    assert str(raised.value) == f"could not restore {names} (all else is as it was): not me"
    assert isinstance(raised.value.__cause__, RuntimeError) and model[0].weight.item() != 7


def test_an_error_that_is_none_of_memory_is_raised_as_it_is(monkeypatch):
    def broken(tensor):
        raise RuntimeError("no copy of this")

    for name in ("_clone", "_to_host"):
        monkeypatch.setattr(restore, name, broken)
        with pytest.raises(RuntimeError, match="^no copy of this$"), preserve_state({"model": nn.Linear(1, 1)}, []):
            pass
        monkeypatch.setattr(restore, "_clone", out_of_memory)


def out_of_memory(tensor):
    raise MemoryError


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_which_errors_are_those_of_memory(error, memory):
    assert restore._is_out_of_memory(error) == memory


def test_memory_is_counted_in_whole_mebibytes_once_per_tensor():
    model = nn.Linear(2**18, 1, bias=False)
    assert restore._mebibytes({"model": model, "again": model, "loss_fn": print}) == 1
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2**18)).sum().backward()
    optimizer.step()  # two moments as large as the weights, and a counter of four bytes
    assert restore._mebibytes({"model": model, "optimizer": optimizer}) == 4


# Loaders.


class Numbers(Dataset):
    """A data set with a state of its own, by index alone."""

    def __init__(self):
        self.random, self.seen, self.images = np.random.default_rng(0), [], torch.zeros(3)

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return i


class Order(Sampler):
    def __init__(self, data):
        self.data_source, self.weights, self.passes = data, torch.ones(3), []

    def __iter__(self):
        return iter(range(3))


class Loader:
    """A loader of nobody's class."""

    def __init__(self):
        self.dataset = Numbers()
        self.sampler = BatchSampler(Order(self.dataset), 2, False)
        self.cache, self.seen, self.net, self._iterator = torch.zeros(3), [0], nn.Linear(1, 1), None

    def __iter__(self):
        return iter(self.sampler)


def test_the_parts_of_a_loader_are_all_that_gives_data_each_once():
    loader = Loader()
    loader.again = loader
    loader._iterator = Numbers()  # what workers are at
    found = parts(loader)
    assert {id(part) for part in found} == {
        id(part) for part in (loader, loader.dataset, loader.sampler, loader.sampler.sampler)
    }
    assert len(found) == 4 and parts([1, 2]) == [] and parts(torch.zeros(2)) == [] and parts(Loader) == []


def test_of_a_loader_and_its_sampler_the_state_comes_back_and_of_a_data_set_what_it_draws_from():
    loader = Loader()
    order, data = loader.sampler.sampler, loader.dataset
    drawn = np.random.default_rng(0).random()
    with preserve_state({}, [loader]):
        assert data.random.random() == drawn
        loader.seen.append(1)
        order.passes.append(1)
        order.weights.add_(1)
        data.seen.append(1)
        data.images.add_(1)
        loader.cache.add_(1)
        loader.dataset, loader.epochs, data.images = None, 1, None
    assert loader.dataset is data and not hasattr(loader, "epochs") and data.images is not None
    assert data.random.random() == drawn
    assert (loader.seen, order.passes, order.weights.tolist()) == ([0], [], [1, 1, 1])
    assert (data.seen, data.images.tolist(), loader.cache.tolist()) == ([1], [1, 1, 1], [1, 1, 1])  # not looked into


def test_workers_that_are_kept_are_set_aside():
    loader = Loader()
    workers = loader._iterator = iter([1])
    with preserve_state({}, [loader]):
        assert loader._iterator is None
        loader._iterator = iter([2])
    assert loader._iterator is workers


# Random states.


@pytest.mark.parametrize(
    ("generator", "draw"),
    [
        (torch.Generator().manual_seed(1), lambda g: torch.rand(1, generator=g).item()),
        (random.Random(1), lambda g: g.random()),
        (np.random.RandomState(1), lambda g: g.random_sample()),
        (np.random.default_rng(1), lambda g: g.random()),
        (np.random.Generator(np.random.MT19937(1)), lambda g: g.random()),
    ],
    ids=["torch", "python", "legacy", "numpy", "twister"],
)
def test_a_generator_goes_back_wherever_it_is_held(generator, draw):
    assert isinstance(generator, GENERATORS)
    back = keep_generator(generator)
    first = draw(generator)
    back()
    assert draw(generator) == first
    loader = Loader()
    loader.random = generator
    for state in (preserve_rng(loader), preserve_state({"model": Holder(generator)}, []), preserve_state({}, [loader])):
        with state:
            following = draw(generator)
            draw(generator)
        back_again = keep_generator(generator)
        assert draw(generator) == following
        back_again()


def test_the_random_states_of_python_numpy_and_torch_go_back_also_after_an_error():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    with pytest.raises(ZeroDivisionError), preserve_rng():
        random.random(), np.random.random(), torch.rand(1)
        raise ZeroDivisionError
    assert states() == before
