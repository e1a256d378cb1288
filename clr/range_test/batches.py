"""The batches of a range test: those to train on, over and over, and those to evaluate on, drawn once and kept."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from torch import Tensor

from clr.range_test.randomness import preserve_rng

__all__ = ["InfiniteLoader", "batch_size", "draw_held_out", "evaluation_interval", "is_finite", "is_one_class"]

PER_UPDATE = 2  # examples evaluated per example trained on; a forward pass costs a third of an update


class InfiniteLoader(Iterator[list[Any]]):
    """The loader's batches, `accumulation_steps` at a time; the loader starts again when it ends."""

    def __init__(self, loader: Iterable[Any], accumulation_steps: int) -> None:
        self.loader, self.accumulation_steps, self.epochs = loader, accumulation_steps, 1
        self.iterator = iter(loader)

    def __next__(self) -> list[Any]:
        return [self._next_batch() for _ in range(self.accumulation_steps)]

    def _next_batch(self) -> Any:
        for batch in self.iterator:
            return batch
        self.iterator, self.epochs = iter(self.loader), self.epochs + 1
        for batch in self.iterator:
            return batch
        raise ValueError("train_loader must give at least one batch in each epoch, got none")

    def examples(self) -> int:
        """Return how many examples an update trains on, judged by the first batch, which is not used up."""
        first = self._next_batch()
        self.iterator = chain([first], self.iterator)
        return batch_size(first) * self.accumulation_steps


def draw_held_out(
    batches: InfiniteLoader,
    val_loader: Iterable[Any] | None,
    every: int,
    count: int | None = None,
    per_update: int = PER_UPDATE,
) -> list[Any]:
    """Return the batches to evaluate on: the first of val_loader, or else the next ones of the training loader.

    `count` of them; None for as many as cost no more than the training if evaluated every `every` updates.
    """
    budget = per_update * every * batches.examples()
    if val_loader is not None:
        with preserve_rng(val_loader):
            return list(islice(val_loader, count)) if count is not None else _up_to(budget, val_loader)
    if count is not None:
        return list(islice(batches.iterator, count))
    try:
        most = max(1, len(batches.loader) // 10)  # type: ignore[arg-type]
    except TypeError:  # no length; a DataLoader over an IterableDataset has a __len__ that says so
        most = 10
    return _up_to(budget, islice(batches.iterator, most))


def evaluation_interval(
    batches: InfiniteLoader, held_out: list[Any], every: int, iterations: int, per_update: int = PER_UPDATE
) -> int:
    """Return the updates between evaluations: more if the held-out batches are large, up to a twentieth of all."""
    examples = sum(batch_size(batch) for batch in held_out)
    return max(every, min(-(-examples // (per_update * batches.examples())), iterations // 20))


def _up_to(examples: int, loader: Iterable[Any]) -> list[Any]:
    """Return the loader's first batches: at least one, and at most this many examples together."""
    found: list[Any] = []
    for batch in loader:
        examples -= batch_size(batch)
        if found and examples < 0:
            break
        found.append(batch)
        if examples <= 0:
            break
    return found


def batch_size(batch: Any) -> int:
    """Return the number of examples in a batch: the length of the longest tensor in it, 1 if there is none.

    The first tensor would not do: a dict may begin with one number per batch, a graph with two rows of edges. A list
    with one item per example counts by its own length: several dicts with the same keys, and inputs and targets in two
    lists of one length, as in ([image, ...], [{"boxes": ...}, ...]), or in a list and a tensor. ((left, right), (near,
    far)) holds no such lists, since all targets are as long as one of the inputs.
    """
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if not isinstance(batch, (list, tuple)):
        return 1
    if _are_examples(batch):
        return len(batch)
    if len(batch) == 2 and _are_lists_of_examples(*batch):
        return len(batch[0])
    return max((batch_size(part) for part in batch), default=1)


def _are_examples(parts: Sequence[Any]) -> bool:
    """Return whether these are dicts, one per example: several, with the same keys."""
    return len(parts) > 1 and all(isinstance(part, Mapping) and part.keys() == parts[0].keys() for part in parts)


def _are_lists_of_examples(inputs: Any, targets: Any) -> bool:
    """Return whether inputs and targets hold one item per example, by the targets."""
    if not isinstance(inputs, (list, tuple)) or not isinstance(targets, (list, tuple, Tensor)):
        return False
    if isinstance(targets, Tensor):
        return targets.dim() > 0 and len(targets) == len(inputs)
    if len(targets) != len(inputs) or not all(isinstance(part, Tensor) and part.dim() for part in targets):
        return len(targets) == len(inputs)
    lengths = {len(part) for part in targets}
    return len(lengths) > 1 or not lengths <= {len(part) for part in inputs if isinstance(part, Tensor) and part.dim()}


def is_one_class(batches: Any) -> bool:
    """Return whether batches are pairs whose targets are all of one class; False for batches of other shapes.

    >>> import torch
    >>> is_one_class([(torch.zeros(2, 3), torch.tensor([4, 4]))]), is_one_class([(torch.zeros(2, 3), torch.ones(2))])
    (True, False)
    """
    targets = [batch[1] for batch in batches if isinstance(batch, (tuple, list)) and len(batch) == 2]
    if not targets or not all(isinstance(part, Tensor) and part.numel() for part in targets):
        return False
    if any(part.is_floating_point() or part.is_complex() for part in targets):
        return False
    first = targets[0].flatten()[0].item()
    return sum(part.numel() for part in targets) > 1 and all(bool((part == first).all()) for part in targets)


def is_finite(batches: Any) -> bool:
    """Return whether all numbers in batches are finite."""
    if isinstance(batches, Tensor):
        return not batches.is_floating_point() or bool(batches.isfinite().all())
    if isinstance(batches, Mapping):
        return all(is_finite(part) for part in batches.values())
    return not isinstance(batches, (list, tuple)) or all(is_finite(part) for part in batches)
