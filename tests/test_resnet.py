"""The residual nets against the paper's counts and torchvision's blocks, and what a run needs of them."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import clr
from clr.nets import NETS, RESNETS
from clr.policies import Triangular
from clr.resnet import Cifar10ResNet
from clr.training import RunConfig, train

CONFIG = RunConfig(
    net="Cifar10ResNet8", policy=Triangular(0.01, 0.1, 3), iterations=6, batch_size=20, pixels="unit", init="he",
    mults=False, optimizer="Nesterov", weight_decay=1e-4, reshuffle=True, evaluate_every=3, test_pictures=100,
)  # fmt: skip


class Shortcut(nn.Module):
    """Every second pixel, and zeros in the new channels, written out by hand."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        out = x.new_zeros(x.shape[0], self.channels, x.shape[2] // 2, x.shape[3] // 2)
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[:, : x.shape[1], i, j] = x[:, :, 2 * i, 2 * j]
        return out


def of_torchvision(depth):
    BasicBlock = pytest.importorskip("torchvision.models.resnet").BasicBlock
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        for i in range((depth - 2) // 6):
            grows = i == 0 and inputs < outputs
            width = inputs if i == 0 else outputs
            layers.append(BasicBlock(width, outputs, 2 if grows else 1, Shortcut(outputs) if grows else None))
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("depth", [8, 20])
def test_forward_gradients_and_statistics_are_those_of_torchvisions_blocks(depth, layout):
    ours, theirs = (net.double().to(memory_format=layout) for net in (Cifar10ResNet(depth), of_torchvision(depth)))
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64).to(memory_format=layout)
    labels = torch.tensor([3, 1, 4, 1])
    for _ in range(2):  # in training, which also moves the statistics
        losses = [F.cross_entropy(net(x), labels) for net in (ours, theirs)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(("depth", "count"), [(8, 75_290), (20, 269_722), (56, 853_018)])
def test_parameters_are_counted_as_in_the_paper(depth, count):
    net = Cifar10ResNet(depth)
    assert sum(w.numel() for w in net.parameters()) == count
    weighted = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == depth


def test_weights_are_hes_normal_ones_with_zero_biases():
    for layer in Cifar10ResNet(20, generator=torch.Generator().manual_seed(0)).modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            w = layer.weight.detach()
            std, n = math.sqrt(2 / w[0].numel()), w.numel()
            assert w.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * n))
            assert abs(w.mean().item()) <= 4 * std / math.sqrt(n)
            assert layer.bias is None or not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and not layer.bias.any()


def test_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, same, other = (
        Cifar10ResNet(8, "he", torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_a_residual_net_is_made_on_the_default_device():
    with torch.device("meta"):
        net = Cifar10ResNet()
    assert {value.device.type for value in net.state_dict().values()} == {"meta"}


def test_param_groups_are_one_with_the_papers_decay():
    net = Cifar10ResNet(8)
    for asked, decay in ((None, 1e-4), (0.01, 0.01)):
        (group,) = net.param_groups(asked)
        assert list(map(id, group.pop("params"))) == list(map(id, net.parameters()))
        assert group == {"name": "all", "lr_mult": 1.0, "weight_decay": decay}


def test_a_run_resumes_bit_for_bit_with_its_running_statistics(small, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(iteration):
        if iteration == 6:
            raise Stop

    monkeypatch.setattr(clr.training.checkpoint, "SECONDS", 0.0)
    whole, seen = train(CONFIG, small), []
    with pytest.raises(Stop):
        train(CONFIG, small, checkpoint=tmp_path / "c", progress=stop)
    again = train(CONFIG, small, checkpoint=tmp_path / "c", progress=seen.append)
    assert seen[0] == 5
    assert again.rows == whole.rows
    assert all(torch.equal(again.weights[name], whole.weights[name]) for name in whole.weights)
    assert whole.weights["stage3.0.bn2.num_batches_tracked"] == 6


def test_names_of_the_residual_nets_give_their_depth():
    assert {name: sum(w.numel() for w in net().parameters()) for name, net in RESNETS.items()} == {
        "Cifar10ResNet8": 75_290, "Cifar10ResNet20": 269_722, "Cifar10ResNet56": 853_018,
    }  # fmt: skip
    assert RESNETS.keys() < NETS.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mults": True}, "mults must be False for Cifar10ResNet8, which has no prototxt, got True"),
        ({"init": "caffe"}, "init must be 'he' for Cifar10ResNet8, got 'caffe'"),
        ({"init": "torch"}, "init must be 'he' for Cifar10ResNet8, got 'torch'"),
        ({"net": "Cifar10Quick"}, "init must be 'caffe' or 'torch' for Cifar10Quick, got 'he'"),
        ({"net": "Cifar10ResNet9"}, "net must be .*'Cifar10ResNet8' or .* got 'Cifar10ResNet9'"),
    ],
)
def test_settings_that_mean_nothing_for_a_net_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize("depth", [2, 7, 9, -4, 8.0, "8", True, None])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=r"depth must be 6n \+ 2 \(8, 14, 20, ...\), got"):
        Cifar10ResNet(depth)
