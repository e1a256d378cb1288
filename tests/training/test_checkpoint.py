"""Checkpoints: an interrupted run ends as an undisturbed one, and a file of another run or a damaged one is refused."""

import re

import pytest
import torch
from short_run import CONFIG, assert_same, changed

from clr import training
from clr.results import ResultError
from clr.training import Stopped, run_spec, train
from clr.training.checkpoint import Checkpoint


class Stop(Exception):
    pass


def stop_after_checkpoint(monkeypatch, config, data, path, after):
    """Train with a checkpoint after every update; stop when that of update `after` is written."""
    save = Checkpoint.save

    def save_then_stop(checkpoint, net, optimizer, iteration, losses):
        save(checkpoint, net, optimizer, iteration, losses)
        if iteration == after:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(training.checkpoint, "SECONDS", 0.0)
        patch.setattr(Checkpoint, "save", save_then_stop)
        train(config, data, checkpoint=path)


@pytest.fixture
def state():
    """A net and its optimizer after one step."""
    net = training.run._net(CONFIG, "cpu")
    optimizer = training.run._optimizer(CONFIG, net)
    net(torch.zeros(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("net", ["Cifar10Quick", "Cifar10FullSigmoidBN"])
@pytest.mark.parametrize("after", [3, 6])
def test_an_interrupted_run_resumes_bit_for_bit(small, tmp_path, monkeypatch, net, after):
    config = changed(net=net, mults=True, weight_decay=None)
    whole, seen = train(config, small), []
    stop_after_checkpoint(monkeypatch, config, small, tmp_path / "c", after)
    assert_same(train(config, small, checkpoint=tmp_path / "c", progress=seen.append), whole)
    assert seen[0] == after


@pytest.mark.parametrize("optimizer", ["CaffeSGD", "Adam"])
@pytest.mark.parametrize("after", [[1], [4], [3, 4, 5], [7]])
def test_a_run_stopped_anywhere_resumes_bit_for_bit(small, tmp_path, optimizer, after):
    """Also between evaluations, whose train loss is the mean over the updates before and after the stop."""
    config, seen = changed(optimizer=optimizer), []
    whole = train(config, small)
    for updates in after:
        made = updates - (seen[-1] if seen else 0)
        asked = iter([False] * made + [True])
        with pytest.raises(Stopped, match=f"stopped after {updates} updates"):
            train(config, small, checkpoint=tmp_path / "c", stop=lambda asked=asked: next(asked))
        seen.append(updates)
    resumed = []
    assert_same(train(config, small, checkpoint=tmp_path / "c", progress=resumed.append), whole)
    assert resumed[0] == after[-1]


def test_a_run_stopped_before_its_first_update_keeps_nothing(small, tmp_path):
    with pytest.raises(Stopped, match="stopped after 0 updates"):
        train(CONFIG, small, checkpoint=tmp_path / "c", stop=lambda: True)
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_checkpoint_can_be_stopped(small):
    asked = iter([False, True])
    with pytest.raises(Stopped, match="stopped after 1 updates"):
        train(CONFIG, small, stop=lambda: next(asked))


def test_a_checkpoint_is_due_when_half_a_minute_is_over(state, tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(training.checkpoint.time, "perf_counter", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "c", {}, {})
    for now[0] in (0, 29, 31, 60, 62, 99):
        if checkpoint.is_due():
            checkpoint.save(*state, 0, [])
            written.append(now[0])
    assert written == [31, 62, 99] and not Checkpoint(None, {}, {}).is_due()
    now[0] = 200
    assert checkpoint.is_due()


def test_a_checkpoint_is_written_between_evaluations_too(small, tmp_path, monkeypatch):
    monkeypatch.setattr(training.checkpoint, "SECONDS", 0.0)
    config, seen = changed(evaluate_every=4), []
    whole = train(config, small)
    updates = iter(range(99))

    def stop():
        if next(updates) == 7:
            raise KeyboardInterrupt  # without a warning
        return False

    with pytest.raises(KeyboardInterrupt):
        train(config, small, checkpoint=tmp_path / "c", stop=stop)
    assert_same(train(config, small, checkpoint=tmp_path / "c", progress=seen.append), whole)
    assert seen[0] == 6


def test_without_a_path_nothing_is_written(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Checkpoint(None, {}, {}).save(*state, 0, [])
    assert not list(tmp_path.iterdir())


def test_seconds_add_up_over_interruptions(small, state, tmp_path, monkeypatch):
    now, spec = [100.0], run_spec(CONFIG, small)
    monkeypatch.setattr(training.checkpoint.time, "perf_counter", lambda: now[0])
    first = Checkpoint(tmp_path / "c", spec, {})
    now[0] += 40
    first.save(*state, 0, [])
    now[0] += 1000  # nobody trains
    second = Checkpoint(tmp_path / "c", spec, {})
    second.load(*state)
    now[0] += 2
    assert second.seconds == 42


def test_a_checkpoint_restores_the_memory_format(small, state, tmp_path):
    spec = run_spec(CONFIG, small)
    Checkpoint(tmp_path / "c", spec, {}).save(*state, 0, [])
    net = training.run._net(CONFIG, "cpu")
    optimizer = training.run._optimizer(CONFIG, net)
    Checkpoint(tmp_path / "c", spec, {}).load(net, optimizer)
    for old, new in zip(state[0].parameters(), net.parameters(), strict=True):
        assert torch.equal(old, new) and old.stride() == new.stride()
        assert state[1].state[old]["velocity"].stride() == optimizer.state[new]["velocity"].stride()


def test_a_checkpoint_of_version_0_1_is_resumed(small, state, tmp_path):
    """Its keys, written out: they may never change."""
    net, optimizer = (part.state_dict() for part in state)
    rows, begun = [{"iteration": 3, "lr": 0.1}], {"commit": "an older commit"}
    old = {"identity": run_spec(CONFIG, small), "rows": rows, "seconds": 5.0, "begun": begun}
    torch.save(old | {"net": net, "optimizer": optimizer}, tmp_path / "c")
    checkpoint = Checkpoint(tmp_path / "c", run_spec(CONFIG, small), {"commit": "this one"})
    checkpoint.load(*state)
    assert (checkpoint.rows, checkpoint.iteration, checkpoint.losses, checkpoint.seconds_before) == (rows, 3, [], 5.0)
    assert checkpoint.provenance["begun"] == begun


def test_a_run_resumed_elsewhere_records_where_it_was_begun(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training.machine, "_commit", lambda: "an older commit")
        stop_after_checkpoint(monkeypatch, CONFIG, small, tmp_path / "c", 3)
    provenance = train(CONFIG, small, checkpoint=tmp_path / "c").provenance
    assert provenance["begun"] == {"commit": "an older commit"}
    assert provenance["commit"] != "an older commit"
    assert "begun" not in train(CONFIG, small).provenance


def test_the_checkpoint_of_another_run_is_refused_by_the_field(small, state, tmp_path):
    Checkpoint(tmp_path / "c", run_spec(CONFIG, small), {}).save(*state, 0, [])
    with pytest.raises(ResultError, match=r"c holds another run: config.momentum is 0.9, asked for 0.5; delete it"):
        train(changed(momentum=0.5), small, checkpoint=tmp_path / "c")


def test_a_damaged_checkpoint_is_named(small, tmp_path):
    (tmp_path / "c").write_bytes(b"half a file")
    with pytest.raises(ResultError, match=re.escape(f"{tmp_path / 'c'} is damaged") + ".* delete it to begin anew"):
        train(CONFIG, small, checkpoint=tmp_path / "c")


@pytest.mark.parametrize("lost", ["identity", "begun", "rows", "seconds", "net", "optimizer"])
def test_a_checkpoint_without_a_part_is_named(small, state, tmp_path, lost):
    Checkpoint(tmp_path / "c", run_spec(CONFIG, small), {}).save(*state, 0, [])
    whole = torch.load(tmp_path / "c", weights_only=True)
    torch.save({name: part for name, part in whole.items() if name != lost}, tmp_path / "c")
    with pytest.raises(ResultError, match=f"c is damaged .'{lost}'.; delete it to begin anew"):
        train(CONFIG, small, checkpoint=tmp_path / "c")
