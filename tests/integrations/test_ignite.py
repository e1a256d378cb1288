"""PolicyLR in an Ignite engine."""

import page
import pytest
import torch
from torch import nn

import clr

engine = pytest.importorskip("ignite.engine", reason="pytorch-ignite is not installed")
handlers = pytest.importorskip("ignite.handlers", reason="pytorch-ignite is not installed")

POLICY = clr.Triangular(0.01, 0.1, 5)


def parts():
    """A net, its optimizer, and an engine that trains it."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)

    def update(_, batch):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(batch[:, :4]), batch[:, 4:]).backward()
        optimizer.step()

    return {"model": model, "optimizer": optimizer, "trainer": engine.Engine(update)}


def loader():
    return list(torch.randn(7, 8, 6, generator=torch.Generator().manual_seed(1)))


def trained(epochs):
    after = page.run("Ignite", **parts(), policy=POLICY)
    after.trainer.run(loader(), max_epochs=epochs)
    return {name: part.state_dict() for name, part in after.parts.items()}


def test_every_update_has_the_policys_rate_and_a_resume_changes_nothing(rates, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = trained(epochs=3)
    torch.save(trained(epochs=1), "checkpoint.pt")
    halves = trained(epochs=3)
    assert rates == [POLICY(k) for k in range(21)] * 2
    torch.testing.assert_close(halves["model"], whole["model"], rtol=0, atol=0)


def wrapped():
    """The same under Ignite's own wrapper of a scheduler."""
    made = parts()
    made["scheduler"] = handlers.LRScheduler(clr.PolicyLR(made["optimizer"], POLICY))
    made["trainer"].add_event_handler(engine.Events.ITERATION_STARTED, made["scheduler"])
    return made


@pytest.mark.parametrize("order", [1, -1])
def test_ignites_own_wrapper_uses_the_policys_rates_too(rates, order):
    first, again = wrapped(), wrapped()
    first["trainer"].run(loader(), max_epochs=1)
    for name in ["optimizer", "scheduler"][::order]:
        again[name].load_state_dict(first[name].state_dict())
    again["trainer"].run(loader(), max_epochs=2)
    assert rates == [POLICY(k) for k in range(21)]


def test_find_bounds_leaves_model_and_optimizer_for_the_trainer():
    made = parts()
    before = {name: value.clone() for name, value in made["model"].state_dict().items()}
    batches = [(batch[:, :4], 3 * batch[:, :2]) for batch in loader()]
    found = clr.find_bounds(made["model"], made["optimizer"], nn.functional.mse_loss, batches[:5], batches[5:])
    assert found.n_curves == 5
    torch.testing.assert_close(made["model"].state_dict(), before, rtol=0, atol=0)
