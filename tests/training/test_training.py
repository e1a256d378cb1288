"""Training: the loop and its batches, against a plain loop written with torch alone."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from short_run import CONFIG, assert_same, changed
from torch.nn import functional as F

from clr import training
from clr.data import Cifar10, Split
from clr.nets import Cifar10FullSigmoidBN, Cifar10Quick
from clr.policies import Fixed, Stages
from clr.training import cuda, train


def test_rows_hold_the_rates_that_were_used(small):
    run = train(CONFIG, small)
    assert [row["iteration"] for row in run.rows] == [3, 6, 8]
    assert [row["lr"] for row in run.rows] == [CONFIG.policy(2), CONFIG.policy(5), CONFIG.policy(7)]
    assert not run.diverged


def test_run_equals_a_plain_loop_written_with_torch_alone(small):
    """Same batches and rates; velocity as in Caffe, written out; default memory layout."""
    net = Cifar10Quick("torch", torch.Generator().manual_seed(0))
    velocity = [torch.zeros_like(w) for w in net.parameters()]
    mean = small.train.images.double().mean((0, 2, 3)).float().view(3, 1, 1)
    losses = []
    for k in range(8):
        order = np.random.RandomState([0, 0]).permutation(1000)[20 * k : 20 * k + 20]
        pictures = (small.train.images[order].float() - mean) / 255
        loss = F.cross_entropy(net(pictures), small.train.labels[order])
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        losses.append(loss.item())
        with torch.no_grad():
            for w, v, gradient in zip(net.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(gradient + 0.004 * w, alpha=CONFIG.policy(k))
                w.sub_(v)
    with torch.no_grad():
        scores = net((small.test.images[::5].float() - mean) / 255)
    run = train(CONFIG, small)
    expected = [np.mean(losses[:3]), np.mean(losses[3:6]), np.mean(losses[6:])]
    # float32 sums of n terms in another order differ by about sqrt(n) halves of a unit, in each of the eight updates
    rounding = 8 * math.sqrt(20 * 32 * 32) * 2**-24
    assert [row["train_loss"] for row in run.rows] == pytest.approx(expected, rel=rounding)
    test_loss = F.cross_entropy(scores, small.test.labels[::5]).item()
    assert run.rows[-1]["test_loss"] == pytest.approx(test_loss, rel=rounding)
    assert run.rows[-1]["test_accuracy"] == (scores.argmax(1) == small.test.labels[::5]).sum().item() / 100
    for name, w in net.named_parameters():
        assert (run.weights[name] - w).norm() <= rounding * w.norm()


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(small):
    first = train(CONFIG, small)
    assert_same(first, train(CONFIG, small))
    assert first.rows != train(changed(seed=1), small).rows


def test_a_run_neither_uses_nor_moves_the_global_random_state(small):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = train(CONFIG, small)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(2)
    assert_same(first, train(CONFIG, small))


def test_thread_count_is_put_back(small):
    before = torch.get_num_threads()
    train(CONFIG, small, threads=before + 1)
    assert torch.get_num_threads() == before


def test_diverged_run_ends_and_is_recorded_as_diverged(small):
    run = train(changed(policy=Fixed(1e6), iterations=60), small)
    assert run.diverged
    assert run.rows[-1]["iteration"] < 60
    assert np.isnan(run.rows[-1]["train_loss"]) or np.isinf(run.rows[-1]["train_loss"])


def test_multipliers_scale_the_rates(small):
    """With the prototxt's multipliers a bias moves twice as far in the first update."""
    moved = {}
    for mults in (False, True):
        config = changed(mults=mults, weight_decay=0.0, iterations=1, policy=Fixed(0.001))
        start = Cifar10Quick("torch", torch.Generator().manual_seed(0)).get_parameter("ip2.bias").detach()
        moved[mults] = train(config, small).weights["ip2.bias"] - start
    assert torch.allclose(moved[True], 2 * moved[False], rtol=1e-3, atol=1e-8)


def test_momentum_is_kept_when_the_rate_drops(small):
    """At rate 0 the velocity that is there still carries the weights on, as in Caffe."""
    config = changed(policy=Stages({0: Fixed(0.01), 4: Fixed(0.0)}), iterations=4)
    at_drop, after = train(config, small), train(dataclasses.replace(config, iterations=5), small)
    assert not torch.equal(at_drop.weights["conv1.weight"], after.weights["conv1.weight"])


def test_batches_cover_every_picture_once_an_epoch(small):
    for reshuffle in (True, False):
        batches = training.run._batches(changed(reshuffle=reshuffle), small, "cpu")
        epochs = []
        for epoch in range(2):
            for k in range(50):
                batches(50 * epoch + k)
                epochs.append(batches.permutation[20 * k : 20 * k + 20].clone())
        first, second = torch.cat(epochs[:50]), torch.cat(epochs[50:])
        assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(1000))
        assert torch.equal(first, second) is not reshuffle


def test_the_two_input_conventions(small):
    unit, caffe = (training.run._batches(changed(pixels=pixels), small, "cpu") for pixels in ("unit", "caffe"))
    (pictures, labels), order = unit(3), unit.permutation[60:80]
    raw = small.train.images[order].double()
    means = small.train.images.double().mean((0, 2, 3)).view(3, 1, 1)
    assert torch.allclose(pictures.double(), raw / 255 - means / 255, atol=1e-6)
    assert torch.equal(labels, small.train.labels[order])
    assert torch.allclose(caffe(3)[0].double(), raw - small.train.images.double().mean(0), atol=1e-4)
    assert pictures.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [None, 10, 30, 95, 100, 1000])
def test_every_class_is_among_the_test_pictures_of_a_data_set_in_order_of_class(small, count):
    """As an image folder is: the first 2,000 pictures would be airplanes and automobiles."""
    in_order = Split(small.test.images[:100], torch.arange(10).repeat_interleave(10))
    data = Cifar10(small.train, in_order, "toy", "none")
    labels = training.run._batches(changed(test_pictures=count), data, "cpu").test_set.labels
    assert len(labels) == min(count or 100, 100)
    assert labels.bincount(minlength=10).max() - labels.bincount(minlength=10).min() <= 1


def test_evaluation_does_not_depend_on_its_batch_size(small):
    batches = training.run._batches(changed(test_pictures=None), small, "cpu")
    net = Cifar10Quick("torch", torch.Generator().manual_seed(0))
    seen = [batches.evaluate(net, size) for size in (500, 64, 7)]
    assert len({result["test_accuracy"] for result in seen}) == 1
    assert [result["test_loss"] for result in seen] == pytest.approx([seen[0]["test_loss"]] * 3, rel=1e-6)
    assert net.training


def test_evaluation_takes_the_running_statistics_and_leaves_them(small):
    net = Cifar10FullSigmoidBN("torch", torch.Generator().manual_seed(0))
    net(small.train.images[:50].float() - 128)
    batches = training.update.Batches(small, "cpu", 20, 0, "caffe", True, 50)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = batches.evaluate(net)
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    images = small.test.images[torch.arange(50) * len(small.test) // 50].float() - small.mean_image
    labels = small.test.labels[torch.arange(50) * len(small.test) // 50]
    assert found["test_loss"] == pytest.approx(F.cross_entropy(net.eval()(images), labels).item(), rel=1e-5)


def test_a_run_with_held_out_images_never_sees_the_test_images(small):
    blank = Split(torch.zeros_like(small.test.images), small.test.labels)
    config = changed(hold_out_every=10, test_pictures=None)
    rows = train(config, dataclasses.replace(small, test=blank)).rows
    assert rows == train(config, small).rows
    assert rows != train(changed(test_pictures=None), small).rows
    assert len(training.run._batches(config, small, "cpu").test_set.labels) == 100


# What the caller is told, and asked.


def test_the_caller_is_told_of_each_row_and_of_the_updates_made(small, tmp_path):
    rows, made = [], []
    told = {"watch": rows.append, "progress": made.append, "checkpoint": tmp_path / "run.checkpoint"}
    with pytest.raises(training.Stopped):
        train(CONFIG, small, stop=lambda: 3 in made, **told)
    assert made == [0, 3] and [row["iteration"] for row in rows] == [3]
    rows.clear(), made.clear()
    run = train(CONFIG, small, **told)
    assert made == [3, 6, 8] and rows == run.rows


@pytest.mark.parametrize("name", ["progress", "stop", "watch"])
def test_what_is_called_must_be_a_function(small, name):
    with pytest.raises(TypeError, match=f"{name} must be "):
        train(CONFIG, small, **{name: 3})


def test_the_weights_of_a_run_have_its_last_accuracy(small, tmp_path):
    run = train(CONFIG, small)
    save_file(run.weights, tmp_path / "weights.safetensors")
    found = training.evaluate(CONFIG, small, tmp_path / "weights.safetensors")
    assert found == {name: run.rows[-1][name] for name in ("test_loss", "test_accuracy")}


def test_a_run_is_in_exact_float32_unless_asked_otherwise(small, monkeypatch):
    asked, on_device = [], cuda.on_device
    monkeypatch.setattr(cuda, "on_device", lambda device, tf32=False: asked.append(tf32) or on_device(device, tf32))
    train(changed(iterations=1), small)
    train(changed(iterations=1), small, tf32=True)
    assert asked == [False, True]
