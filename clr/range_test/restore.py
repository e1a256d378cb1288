"""Put a training script back as it was: model, optimizer, loaders and random states, to the bit.

`restored(...)` notes everything on entry and puts it back on exit, also after an exception or Ctrl-C. The same
objects come back with the same contents, so that what refers to them (a scheduler, a captured graph) goes on as if
nothing had been: tensors, numpy arrays, Python's collections, sources of randomness, and optimizers that wrap another.
What lies inside a data set, or with the workers of a loader, is theirs and is not looked into; but workers that are
already there are left alone, and others are used meanwhile.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

__all__ = ["random_restored", "restored", "seed_all"]

Restore = Callable[[], Any]
RANDOM = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
WRAPPED = (torch.optim.Optimizer, torch.amp.GradScaler)  # by an optimizer such as SAM or Accelerate's
KINDS = (Tensor, np.ndarray, dict, list, tuple, set, deque, *RANDOM, *WRAPPED)


@contextmanager
def restored(modules: Iterable[nn.Module], keepers: Iterable[Any], loaders: Iterable[Any]) -> Iterator[None]:
    """Put back modules, keepers (optimizer, GradScaler), loaders with their samplers, gradients and random states."""
    modules = list(modules)
    parts = [part for module in modules for part in module.modules()]
    memo: dict[int, tuple[Any, Restore]] = {}
    restores = [_kept(vars(holder), memo) for holder in [*parts, *keepers]]
    restores += [_kept(tensor, memo) for module in modules for tensor in [*module.parameters(), *module.buffers()]]
    restores += [_kept_loader(loader, memo) for loader in loaders]
    tensors = [value for value, _ in memo.values() if isinstance(value, Tensor)]
    gradients = [(tensor, tensor.grad) for tensor in tensors if tensor.is_leaf]
    with random_restored():
        try:
            for tensor, _ in gradients:
                tensor.grad = None  # the tensors themselves are put aside, and so stay as they are
            yield
        finally:
            for restore in restores:
                restore()
            for tensor, gradient in gradients:
                tensor.grad = gradient


def _kept(value: Any, memo: dict[int, tuple[Any, Restore]]) -> Restore:
    """Return a call that makes `value` what it is now and returns it; other kinds of object than these are let be."""
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, Tensor):
        restore = _kept_tensor(value)
    elif isinstance(value, np.ndarray):
        restore = _kept_array(value)
    elif isinstance(value, dict):
        restore = _kept_dict(value, memo)
    elif isinstance(value, (list, deque)):
        restore = _kept_list(value, memo)
    elif isinstance(value, (set, tuple)):
        restore = _kept_members(value, memo)
    elif isinstance(value, RANDOM):
        restore = _kept_random(value)
    elif isinstance(value, WRAPPED):
        restore = _kept_object(value, memo)
    else:
        return lambda: value
    memo[id(value)] = value, restore  # holds the value too, so that its id stays its own
    return restore


def _kept_tensor(tensor: Tensor) -> Restore:
    strided = tensor.layout is torch.strided
    if strided and any(size > 1 and not step for size, step in zip(tensor.shape, tensor.stride(), strict=True)):
        return lambda: tensor  # expanded: nothing can be written into it
    copy = tensor.detach().clone()

    def restore() -> Tensor:
        with torch.no_grad():
            return tensor.copy_(copy)

    return restore


def _kept_dict(values: dict, memo: dict[int, tuple[Any, Restore]]) -> Restore:
    restores: dict[Any, Restore] = {}

    def restore() -> dict:
        before = {key: part() for key, part in restores.items()}
        values.clear()
        values.update(before)
        return values

    memo[id(values)] = values, restore  # before looking inside: it may hold itself
    restores |= {key: _kept(value, memo) for key, value in values.items()}
    return restore


def _kept_list(values: Any, memo: dict[int, tuple[Any, Restore]]) -> Restore:
    before = list(values)
    members = _kept_members(values, memo)

    def restore() -> Any:
        members()
        values.clear()
        values.extend(before)
        return values

    return restore


def _kept_members(values: Any, memo: dict[int, tuple[Any, Restore]]) -> Restore:
    before = set(values) if isinstance(values, set) else None
    restores = [_kept(value, memo) for value in values if isinstance(value, KINDS)]

    def restore() -> Any:
        for part in restores:
            part()
        if before is not None and values != before:
            values.clear()
            values.update(before)
        return values

    return restore


def _kept_object(value: Any, memo: dict[int, tuple[Any, Restore]]) -> Restore:
    attributes = _kept(vars(value), memo)

    def restore() -> Any:
        attributes()
        return value

    return restore


def _kept_array(array: np.ndarray) -> Restore:
    copy = array.copy()

    def restore() -> np.ndarray:
        if array.flags.writeable:
            np.copyto(array, copy)
        return array

    return restore


def _kept_random(source: Any) -> Restore:
    if isinstance(source, torch.Generator):
        state = source.get_state()
        return lambda: source.set_state(state)
    if isinstance(source, random.Random):
        python = source.getstate()
        return lambda: source.setstate(python)
    if isinstance(source, np.random.RandomState):
        numpy = source.get_state()
        return lambda: source.set_state(numpy)
    bits = source.bit_generator.state
    return lambda: setattr(source.bit_generator, "state", bits)


# Loaders


def _kept_loader(loader: Any, memo: dict[int, tuple[Any, Restore]]) -> Restore:
    """Keep a loader's, its samplers' and its data set's attributes, and the contents of those a sampler may draw by."""
    restores = []
    for part in _parts(loader):
        attributes = vars(part)
        before = dict(attributes)
        kinds = KINDS if isinstance(part, Sampler) else RANDOM
        drawn_by = {name: value for name, value in before.items() if name not in ("dataset", "data_source")}
        restores += [_kept(value, memo) for value in drawn_by.values() if isinstance(value, kinds)]
        restores.append(_kept_attributes(attributes, before))
        if before.get("_iterator") is not None:
            part._iterator = None  # workers that are kept between epochs: their random states are out of reach
    return lambda: [restore() for restore in restores]


def _kept_attributes(attributes: dict[str, Any], before: dict[str, Any]) -> Restore:
    def restore() -> None:
        for name in attributes.keys() - before.keys():
            del attributes[name]
        attributes.update(before)

    return restore


def _parts(loader: Any) -> list[Any]:
    """Return a loader and what it draws from: its samplers and data sets, and theirs."""
    found: list[Any] = []
    todo = [loader]
    while todo:
        part = todo.pop()
        if hasattr(part, "__dict__") and not any(part is other for other in found):
            found.append(part)
            todo += [getattr(part, name, None) for name in ("sampler", "batch_sampler", "dataset", "data_source")]
    return found


# Random states


@contextmanager
def random_restored(*loaders: Any) -> Iterator[None]:
    """Put the random states of Python, numpy, torch and its devices back, and those that the loaders own."""
    owned = [_kept_random(source) for source in _sources(loaders)]
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        for restore in owned:
            restore()
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)


def seed_all(seed: int, loaders: Iterable[Any]) -> None:
    """Seed Python, numpy, torch and its devices, and the sources of randomness that the loaders own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would note it for devices that are not yet in use
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    for source in _sources(loaders):
        if isinstance(source, torch.Generator):
            source.manual_seed(seed)
        elif isinstance(source, np.random.Generator):
            source.bit_generator.state = type(source.bit_generator)(seed).state
        else:
            source.seed(seed)


def _sources(loaders: Iterable[Any]) -> list[Any]:
    """Return the sources of randomness that loaders, their samplers and their data sets own."""
    parts = [part for loader in loaders for part in _parts(loader)]
    return [value for part in parts for value in vars(part).values() if isinstance(value, RANDOM)]
