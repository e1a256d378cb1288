"""Random states: of Python, numpy, torch and its devices, and of what loaders own. Seed them, and put them back."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["GENERATORS", "keep_generator", "parts", "preserve_rng", "seed_everything"]

GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


@contextmanager
def preserve_rng(*loaders: Any) -> Iterator[None]:
    """Restore the random states of Python, numpy, torch and its devices, and those that the loaders own."""
    own = [keep_generator(generator) for generator in _generators(loaders)]
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        for restore in own:
            restore()
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)


def seed_everything(seed: int, loaders: Iterable[Any]) -> None:
    """Seed Python, numpy, torch and its devices, and the random generators that the loaders own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would note it for devices that are not yet in use
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    for generator in _generators(loaders):
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        else:
            generator.seed(seed)


def _generators(loaders: Iterable[Any]) -> list[Any]:
    """Return the random generators that loaders, their samplers and their data sets own."""
    owners = [part for loader in loaders for part in parts(loader)]
    return [value for part in owners for value in vars(part).values() if isinstance(value, GENERATORS)]


def parts(loader: Any) -> list[Any]:
    """Return a loader and what it draws from: its samplers, data sets and wrapped loaders, and theirs."""
    found: list[Any] = []
    todo = [loader]
    while todo:
        part = todo.pop()
        if _gives_data(part) and not any(part is other for other in found):
            found.append(part)
            todo += [value for name, value in vars(part).items() if name != "_iterator"]
    return found


def _gives_data(part: Any) -> bool:
    gives = hasattr(part, "__iter__") or hasattr(part, "__getitem__")
    return gives and hasattr(part, "__dict__") and not isinstance(part, (Tensor, nn.Module, type, np.ndarray))


def keep_generator(generator: Any) -> Callable[[], Any]:
    """Return a call that puts a random generator back to its present state."""
    if isinstance(generator, torch.Generator):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.RandomState):
        return partial(generator.set_state, generator.get_state())
    return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
