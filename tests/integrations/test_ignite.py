"""PolicyLR in an Ignite engine."""

import page
import pytest
import torch
from torch import nn

import clr

engine = pytest.importorskip("ignite.engine", reason="pytorch-ignite is not installed")
handlers = pytest.importorskip("ignite.handlers", reason="pytorch-ignite is not installed")

POLICY = clr.Triangular(0.01, 0.1, 5)


def names(epochs):
    torch.manual_seed(0)
    batches = torch.randn(7, 8, 6, generator=torch.Generator().manual_seed(1))
    loader = [(batch[:, :4], batch[:, 4:]) for batch in batches]
    return {
        "model": nn.Linear(4, 2),
        "loader": loader,
        "loss_fn": nn.functional.mse_loss,
        "policy": POLICY,
        "epochs": epochs,
    }


def test_every_update_has_the_policys_rate_and_a_resume_changes_nothing(rates, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    half = page.run("Ignite", **names(epochs=1))
    torch.save({name: part.state_dict() for name, part in half.parts.items()}, "checkpoint.pt")
    again = page.run("Ignite", **names(epochs=3))
    assert rates == [POLICY(k) for k in range(21)]
    (tmp_path / "checkpoint.pt").unlink()
    whole = page.run("Ignite", **names(epochs=3))
    torch.testing.assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def wrapped():
    """The same net trained under Ignite's own wrapper of a scheduler."""
    given = names(epochs=1)
    model, loss_fn = given["model"], given["loss_fn"]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    scheduler = handlers.LRScheduler(clr.PolicyLR(optimizer, POLICY))

    def update(_, batch):
        optimizer.zero_grad()
        loss_fn(model(batch[0]), batch[1]).backward()
        optimizer.step()

    trainer = engine.Engine(update)
    trainer.add_event_handler(engine.Events.ITERATION_STARTED, scheduler)
    return trainer, (model, optimizer, scheduler), given["loader"]


@pytest.mark.parametrize("optimizer_last", [False, True])
def test_ignites_own_wrapper_uses_the_policys_rates_too(rates, optimizer_last):
    trainer, parts, loader = wrapped()
    trainer.run(loader, max_epochs=1)
    again, new, _ = wrapped()
    pairs = list(zip(new, parts, strict=True))
    for one, other in pairs[:: -1 if optimizer_last else 1]:
        one.load_state_dict(other.state_dict())
    again.run(loader, max_epochs=2)
    assert rates == [POLICY(k) for k in range(21)]
