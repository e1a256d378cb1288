"""Put a training script back exactly: model, optimizer, loaders and random states.

`preserve_state(...)` notes everything on entry and restores it on exit, also after an exception or Ctrl-C. The same
objects come back with the same contents, so whatever refers to them (a scheduler, a captured graph) is not affected:
modules, tensors (also resized, replaced or materialized ones), numpy arrays, Python's collections, random generators,
optimizers that wrap another, and modules that a hook or a loss function closes over. What cannot be restored is named
in an error, after everything else has been restored. The contents of a data set are not looked into. Workers that a
loader keeps between epochs are left alone, and others are used meanwhile.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, singledispatch
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from clr import _checks
from clr.range_test.randomness import GENERATORS, keep_generator, parts, preserve_rng

__all__ = ["preserve_state"]

Restore = Callable[[], Any]
Add = Callable[[str, Any], None]  # takes a snapshot of a part, too
DATA = ("dataset", "data_source")  # attributes of loaders and samplers


@contextmanager
def preserve_state(stateful: dict[str, Any], loaders: Iterable[Any]) -> Iterator[None]:
    """Restore objects (by name), what they are made of, loaders with their samplers, gradients and random states.

    Raises:
        RuntimeError: something could not be restored; it is named, and all else is restored.
        MemoryError: there is no room for a copy; nothing was changed.
    """
    snapshots = _Snapshots()
    try:
        for name, value in stateful.items():
            snapshots.add(name, value)
        for loader in loaders:
            _snapshot_loader(loader, snapshots)
    except _NoRoom as error:
        raise MemoryError(f"a copy of the model and the optimizer needs {_mebibytes(stateful)} MiB: {error}") from error
    tensors = [value for value in snapshots.seen.values() if isinstance(value, Tensor) and value.is_leaf]
    gradients = [("a gradient", partial(setattr, tensor, "grad", tensor.grad)) for tensor in tensors]
    with preserve_rng():
        try:
            for tensor in tensors:
                tensor.grad = None  # the gradients themselves are set aside, and so stay as they are
            yield
        finally:
            _restore_all([*snapshots.restores, *gradients])


class _Snapshots:
    """The objects seen, each once, and the calls that restore them."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}  # holds the objects, so that their ids stay their own
        self.restores: list[tuple[str, Restore]] = []

    def add(self, name: str, value: Any, skip: tuple[type, ...] = ()) -> None:
        known = _snapshot.dispatch(type(value)) is not _snapshot.dispatch(object)
        if known and id(value) not in self.seen and not isinstance(value, skip):
            self.seen[id(value)] = value
            if (restore := _snapshot(value, name, partial(self.add, skip=skip))) is not None:
                self.restores.append((name, restore))


def _restore_all(restores: list[tuple[str, Restore]]) -> None:
    failed: dict[str, Exception] = {}
    for name, restore in restores:
        try:
            restore()
        except Exception as error:
            failed[name] = error
    if failed:
        names = _checks.listed(name.replace("._parameters", "").replace("._buffers", "") for name in failed)
        first = next(iter(failed.values()))
        raise RuntimeError(f"could not restore {names} (all else is as it was): {first}") from first


@singledispatch
def _snapshot(value: Any, name: str, add: Add) -> Restore | None:
    """Return a call that restores `value` as it is now, and add its parts; None for kinds that are left alone."""
    return None


@_snapshot.register(nn.Module)
@_snapshot.register(torch.optim.Optimizer)
@_snapshot.register(torch.amp.GradScaler)
def _(value: Any, name: str, add: Add) -> Restore:
    kind, attributes = type(value), vars(value)
    for key, part in attributes.items():
        add(name if key == "_modules" else f"{name}.{key}", part)
    return _both(partial(setattr, value, "__class__", kind), _refill(attributes))  # lazy modules change their class


@_snapshot.register(Tensor)
def _(tensor: Tensor, name: str, add: Add) -> Restore | None:
    if nn.parameter.is_lazy(tensor):
        kind, empty = type(tensor), tensor.data
        return _both(partial(setattr, tensor, "data", empty), partial(setattr, tensor, "__class__", kind))
    if tensor.layout is not torch.strided:
        return partial(_overwrite, tensor, _copy(tensor))
    if any(size > 1 and not step for size, step in zip(tensor.shape, tensor.stride(), strict=True)):
        return None  # expanded: nothing can be written into it
    alias, copy, layout = tensor.detach(), _copy(tensor), _layout(tensor)

    def restore() -> None:
        alias.copy_(copy)
        if _layout(tensor) != layout:
            tensor.data = alias

    return restore


@_snapshot.register
def _(values: dict, name: str, add: Add) -> Restore:
    for key, value in values.items():
        add(f"{name}.{key}" if isinstance(key, (str, int)) else name, value)
    return _refill(values)


@_snapshot.register(list)
@_snapshot.register(deque)
def _(values: Any, name: str, add: Add) -> Restore:
    before = list(values)
    _add_members(values, name, add)

    def restore() -> None:
        values.clear()
        values.extend(before)

    return restore


@_snapshot.register
def _(values: set, name: str, add: Add) -> Restore:
    before = set(values)
    _add_members(values, name, add)

    def restore() -> None:
        if values != before:
            values.clear()
            values.update(before)

    return restore


@_snapshot.register(tuple)
def _add_members(values: Iterable[Any], name: str, add: Add) -> None:
    for i, value in enumerate(values):
        add(f"{name}[{i}]", value)


@_snapshot.register
def _(array: np.ndarray, name: str, add: Add) -> Restore | None:
    copy = array.copy()
    return (lambda: np.copyto(array, copy)) if array.flags.writeable else None


@_snapshot.register
def _(function: FunctionType, name: str, add: Add) -> None:
    """Add the modules, such as a moving average, that a hook or a loss function uses from outside."""
    around = [function.__globals__.get(key) for key in function.__code__.co_names]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # an empty cell
            around.append(cell.cell_contents)
    for value in around:
        if isinstance(value, nn.Module):
            add(f"{type(value).__name__} of {function.__name__}", value)


@_snapshot.register
def _(call: partial, name: str, add: Add) -> None:
    for value in (call.func, *call.args, *call.keywords.values()):
        if isinstance(value, (nn.Module, FunctionType, MethodType)):
            add(name, value)


@_snapshot.register
def _(method: MethodType, name: str, add: Add) -> None:
    if isinstance(method.__self__, nn.Module):
        add(name, method.__self__)


for kind in GENERATORS:
    _snapshot.register(kind, lambda generator, name, add: keep_generator(generator))


def _both(first: Restore, second: Restore) -> Restore:
    return lambda: (first(), second())


def _refill(values: dict) -> Restore:
    before = dict(values)

    def restore() -> None:
        values.clear()
        values.update(before)

    return restore


@torch.no_grad()
def _overwrite(tensor: Tensor, copy: Tensor) -> None:
    """Write into the tensor itself: indices and values of a sparse one's alias are its own."""
    tensor.copy_(copy)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.data_ptr()


class _NoRoom(Exception):
    """A copy does not fit into memory."""


def _copy(tensor: Tensor) -> Tensor:
    """Return a copy, in host memory where the device has no room for it."""
    tensor = tensor.detach()
    try:
        return _clone(tensor)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    try:
        return _to_host(tensor)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise _NoRoom(str(error).partition("\n")[0]) from error


def _clone(tensor: Tensor) -> Tensor:
    return tensor.clone()


def _to_host(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cpu").copy_(tensor)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


def _mebibytes(stateful: dict[str, Any]) -> int:
    modules = [value for value in stateful.values() if isinstance(value, nn.Module)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    states = [state for value in stateful.values() for state in getattr(value, "state", {}).values()]
    tensors += [part for state in states for part in state.values() if isinstance(part, Tensor)]
    return -(-sum({id(tensor): tensor.nbytes for tensor in tensors}.values()) // 2**20)


# Loaders


def _snapshot_loader(loader: Any, snapshots: _Snapshots) -> None:
    """Note a loader, and the samplers, data sets and loaders that it draws from.

    Of a data set only the attributes and its random generators are restored; of a loader also what its collections
    hold, except for tensors and arrays, which are its data and too large to copy; of a sampler all.
    """
    for part in parts(loader):
        attributes = vars(part)
        for name, value in attributes.items():
            path = f"{type(part).__name__}.{name}"
            if isinstance(value, GENERATORS) or (isinstance(part, Sampler) and name not in DATA):
                snapshots.add(path, value)
            elif hasattr(part, "__iter__") and not isinstance(part, Dataset) and name not in DATA:
                snapshots.add(path, value, skip=(Tensor, np.ndarray, nn.Module))
        snapshots.restores.append((type(part).__name__, _refill(attributes)))
        if attributes.get("_iterator") is not None:
            part._iterator = None  # workers that are kept between epochs: their random states are out of reach
