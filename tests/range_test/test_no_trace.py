"""No trace of what changes its shape, its kind or its place; and an error that names what cannot be restored."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from toys import SHORT, flat, plain_list, points, sgd

import clr
from clr.range_test import restore


def probe(model, optimizer=None, loader=None, loss_fn=F.cross_entropy):
    optimizer = optimizer or sgd(model.parameters())
    loader = loader or plain_list()
    return clr.lr_range_test(model, optimizer, loss_fn, loader, [points()], **SHORT)


class Changing(nn.Module):
    """Resizes, replaces and adds tensors as it runs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("resized", torch.ones(0))
        self.register_buffer("grown", torch.ones(2))
        self.register_buffer("replaced", torch.ones(2))
        self.plain = torch.ones(3)

    def forward(self, x):
        self.resized.resize_(len(x)).fill_(5)
        self.grown.resize_(1000).fill_(5)
        self.replaced = torch.zeros(7)
        self.plain.data = torch.zeros(1)
        self.register_buffer("added", torch.zeros(1))
        return self.layer(x)


def test_tensors_that_are_resized_replaced_or_added_come_back():
    model = Changing()
    held = [model.resized, model.grown, model.replaced, model.plain]
    before = flat(held)
    probe(model)
    assert flat([*model.buffers(), model.plain]) == before and not hasattr(model, "added")
    assert all(
        new is old for new, old in zip([model.resized, model.grown, model.replaced, model.plain], held, strict=True)
    )


def test_a_parameter_whose_data_is_replaced_keeps_its_own_storage():
    model = nn.Linear(2, 2)
    view, before = model.weight.data.view(-1), flat(model.state_dict())

    def loss_fn(outputs, targets):
        model.weight.data = model.weight.data.clone()
        return F.cross_entropy(outputs, targets)

    probe(model, loss_fn=loss_fn)
    assert flat(model.state_dict()) == before and view.data_ptr() == model.weight.data_ptr()


def test_lazy_modules_are_lazy_again_and_start_as_they_would_have():
    ends = []
    for how in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
        if how:
            probe(model)
            assert type(model[0]) is nn.LazyLinear and nn.parameter.is_lazy(model[0].weight)
        model(points()[0])
        ends.append(flat(model.state_dict()))
    assert ends[0] == ends[1]


def test_quantization_observers_come_back():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.quantization as tq

        model = nn.Sequential(tq.QuantStub(), nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 2), tq.DeQuantStub())
        model.train().qconfig = tq.get_default_qat_qconfig("fbgemm")
        tq.prepare_qat(model, inplace=True)
        optimizer = sgd(model.parameters())
        before = flat([model.state_dict(), optimizer.state_dict()])
        probe(model, optimizer)
    assert flat([model.state_dict(), optimizer.state_dict()]) == before


@pytest.mark.parametrize("how", ["hook", "loss", "whole"])
def test_moving_averages_come_back(how):
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer, average = sgd(model.parameters()), AveragedModel(model)
    before = flat([model.state_dict(), average.state_dict()])

    def loss_fn(outputs, targets):
        average.update_parameters(model)
        return F.cross_entropy(outputs, targets)

    if how == "hook":
        optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    if how == "whole":
        probe(average, sgd(average.parameters()))
    else:
        probe(model, optimizer, loss_fn=loss_fn if how == "loss" else F.cross_entropy)
    assert flat([model.state_dict(), average.state_dict()]) == before


class Wrapper:
    """A loader around another, with a state of its own."""

    def __init__(self, inner):
        self.inner, self.epochs, self.seen = inner, 0, []

    def __iter__(self):
        self.epochs += 1
        for batch in self.inner:
            self.seen.append(len(batch))
            yield batch


def test_a_loader_that_wraps_another_comes_back_with_it():
    from torch.utils.data import DataLoader, TensorDataset

    generator = torch.Generator().manual_seed(1)
    inner = DataLoader(TensorDataset(*points()), 16, shuffle=True, generator=generator)
    loader = Wrapper(Wrapper(inner))
    before = flat(generator.get_state())
    probe(nn.Linear(2, 2), loader=loader)
    assert flat(generator.get_state()) == before and loader.inner.epochs == 0 == len(loader.seen)
    clr.lr_range_test(net := nn.Linear(2, 2), sgd(net.parameters()), F.cross_entropy, loader, seed=1, **SHORT)
    assert flat(generator.get_state()) == before


class Stubborn(dict):
    def clear(self):
        raise RuntimeError("not me")


@pytest.mark.parametrize("raised", [False, True])
def test_what_cannot_be_restored_is_named_and_all_else_is(raised):
    model = nn.Linear(2, 2)
    model.notes = Stubborn(a=1)
    optimizer = sgd(model.parameters())
    before = flat([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()])

    def loss_fn(outputs, targets):
        if raised and model.weight.grad is not None:
            raise KeyError("in training")
        return F.cross_entropy(outputs, targets)

    with pytest.raises(RuntimeError, match=r"could not restore model.notes \(all else is as it was\): not me"):
        probe(model, optimizer, loss_fn=loss_fn)
    assert flat([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()]) == before


def test_a_device_without_room_keeps_the_copy_in_host_memory(monkeypatch):
    def full(tensor, **_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = nn.Linear(2, 2)
    before = flat(model.state_dict())
    monkeypatch.setattr(restore, "_clone", full)
    probe(model)
    assert flat(model.state_dict()) == before


def test_no_room_at_all_changes_nothing_and_says_how_much_was_needed(monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] can't allocate memory: you tried to allocate 16 bytes")

    model = nn.Linear(600, 600)
    before = flat(model.state_dict())
    monkeypatch.setattr(restore, "_clone", full)
    monkeypatch.setattr(restore, "_to_host", full)
    with pytest.raises(MemoryError, match="a copy of the model and the optimizer needs 2 MiB"):
        probe(model)
    assert flat(model.state_dict()) == before and model.weight.grad is None
