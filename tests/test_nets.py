"""The nets against real Caffe's numbers, their prototxts' settings, and plain loops."""

import math

import golden_data as golden
import numpy as np
import pytest
import torch
from golden_data import NETS
from torch import nn
from torch.nn import functional as F

from clr.nets import CaffeBatchNorm, Cifar10Quick, WithinChannelLRN, _window_mean
from clr.optim import CaffeSGD
from clr.policies import Triangular

# Sums in float32 differ with the order of their terms, which threads and instruction sets change: n terms by about
# sqrt(n) halves of a unit. The longest sums here, the gradients', have a term per picture and place of a layer.
ROUNDING = math.sqrt(100 * 32 * 32) * 2**-24  # 1.9e-5

every_net = pytest.mark.parametrize("name", NETS)
every_layout = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)


@pytest.fixture(scope="module")
def small_batches():
    images, labels = golden.small_pictures()
    assert golden.small("")["images_sum"] == images.sum(dtype=np.int64)
    assert golden.small("")["labels_sum"] == labels.sum()
    return golden.batches(images, labels)


@pytest.fixture(scope="module")
def batches():
    arrays = golden.load("batches")
    return golden.batches(arrays["images"], arrays["labels"])


def make(name, blobs, layout=torch.contiguous_format, dtype=torch.float32):
    net = NETS[name]().to(dtype, memory_format=layout)
    golden.set_blobs(net, blobs)
    return net


def layout_of(name):
    """Return the fast memory layout, but for two nets the one in which torch's sums agree better with Caffe's."""
    return torch.contiguous_format if name in ("full", "full_sigmoid_bn") else torch.channels_last


def train(name, blobs, data, rates, optimizer=CaffeSGD, **options):
    """Return the losses before each update, and the net after the last."""
    net = make(name, blobs, layout_of(name))
    data = [(x.to(memory_format=layout_of(name)), labels) for x, labels in data]
    return golden.train(net, optimizer(net.param_groups(), lr=1.0, **options), data, rates), net


def layers(net, x):
    """Return the output of every layer, by its name."""
    return {name: (x := layer(x)) for name, layer in net.named_children()}


def assert_norm_and_first_16(tensor, expected):
    norm, first = expected[0], expected[1:]
    assert tensor.norm().item() == pytest.approx(norm, rel=ROUNDING)
    assert np.abs(tensor.detach().flatten()[:16].numpy() - first).max() <= ROUNDING * norm


# Against real Caffe: small.npz


@every_net
def test_first_pass_agrees_with_caffe(name, small_batches):
    net = make(name, golden.small_weights(NETS[name]()))
    caffe, (x, labels) = golden.small(f"{name}/"), small_batches[0]

    scores = net(x)
    loss = F.cross_entropy(scores, labels)
    loss.backward()

    assert golden.distance(scores, caffe["logits"]) <= ROUNDING
    assert loss.item() == pytest.approx(caffe["loss0"], rel=ROUNDING)
    for parameter, w in net.named_parameters():
        assert_norm_and_first_16(w.grad, caffe[f"grad/{golden.blob(parameter)}"])
    for key, value in golden.bn_blobs(net).items():
        assert golden.distance(value, caffe[f"bnstate1/{key}"]) <= ROUNDING


@every_net
def test_twenty_updates_at_a_moving_rate_agree_with_caffe(name, small_batches):
    caffe = golden.small(f"{name}/")
    rates = Triangular(caffe["base_lr"], caffe["max_lr"], caffe["stepsize"])(np.arange(20))
    assert rates == pytest.approx(caffe["lr"], rel=1e-6)

    losses, net = train(name, golden.small_weights(NETS[name]()), small_batches, rates)

    assert losses == pytest.approx(caffe["loss"], rel=20 * ROUNDING)  # each update adds its own
    for parameter, w in net.named_parameters():
        assert_norm_and_first_16(w, caffe[f"final/{golden.blob(parameter)}"])
    for key, value in golden.bn_blobs(net).items():
        assert golden.distance(value, caffe[f"bnstate20/{key}"]) <= ROUNDING


@every_net
def test_torchs_sgd_leaves_caffes_path_within_five_updates(name, small_batches):
    caffe, weights = golden.small(f"{name}/"), golden.small_weights(NETS[name]())
    losses, _ = train(name, weights, small_batches, caffe["lr"][:5], torch.optim.SGD, momentum=0.9)
    assert np.abs(losses - caffe["loss"][:5]).max() > 0.01  # 20 * ROUNDING: 0.0004


# Against real Caffe: the folder that CLR_GOLDEN names


@every_layout
@pytest.mark.parametrize("phase", ["test", "train"])
@pytest.mark.parametrize("weights", ["init", "trained"])
@every_net
def test_every_layer_agrees_with_caffe(name, weights, phase, layout, batches):
    forward = golden.load(f"{name}_forward")
    caffe = golden.part(forward, f"{weights}_{phase}/") or golden.part(forward, f"{weights}_test/")
    net = make(name, trained_or_init(name, weights), layout).train(phase == "train")
    x, labels = batches[0]

    with torch.no_grad():
        outputs = layers(net, x.to(memory_format=layout))
    scores = outputs["ip2" if name == "quick" else "ip1"]
    assert F.cross_entropy(scores, labels).item() == pytest.approx(caffe.pop("loss"), rel=ROUNDING)
    accuracy = (scores.argmax(1) == labels).float().mean().item()
    assert accuracy == pytest.approx(caffe.pop("accuracy", accuracy))  # only the test phase has it
    for layer, expected in caffe.items():  # of the 4-D outputs it keeps the first two pictures
        assert golden.distance(outputs.pop(layer.lower())[: len(expected)], expected) <= ROUNDING, layer
    assert list(outputs) == ["flatten"]  # nothing else is left unchecked
    for key, value in golden.part(forward, f"{weights}_train_bnstate/").items() if phase == "train" else ():
        assert golden.distance(golden.bn_blobs(net)[key], value) <= ROUNDING, key


# Rounding decides between near maxima of a pooling window: float64 is 7e-4 from Caffe's first gradient of `full`.
@pytest.mark.parametrize(("weights", "dtype", "limit"), [
    ("init", torch.float32, 7e-3), ("trained", torch.float32, 7e-3), ("trained", torch.float64, ROUNDING),
])  # fmt: skip
@every_net
def test_every_gradient_agrees_with_caffe(name, weights, dtype, limit, batches):
    caffe = golden.part(golden.load(f"{name}_grads"), f"{weights}/")
    net = make(name, trained_or_init(name, weights), dtype=dtype)
    x, labels = batches[0]
    loss = F.cross_entropy(net(x.to(dtype)), labels)
    loss.backward()
    assert loss.item() == pytest.approx(caffe["loss"], rel=ROUNDING)
    for parameter, w in net.named_parameters():
        assert golden.distance(w.grad, caffe[golden.blob(parameter)]) <= limit, parameter


# Where maxima and ReLUs switch, rounding grows: float64, which has next to none, is this far from Caffe's float32.
CHAOS = {("quick", "fixed", 25): 1.3e-3, ("quick", "tri", 10): 3.8e-4, ("quick", "tri", 25): 9.4e-3}
RUNS = {"quick": "restart fixed tri", "full": "fixed tri", "full_sigmoid": "restart fixed", "full_sigmoid_bn": "fixed"}


@pytest.mark.parametrize(("name", "run"), [(name, run) for name in RUNS for run in RUNS[name].split()])
def test_losses_follow_caffes_solver(name, run, batches):
    caffe = golden.load(f"{name}_traj_{run}")
    weights, updates = ("trained", 10) if run == "restart" else ("init", 25)
    losses, _ = train(name, trained_or_init(name, weights), batches, caffe["lr"][:updates])
    for n in {10, updates}:
        assert losses[:n] == pytest.approx(caffe["loss"][:n], abs=max(n * ROUNDING, 10 * CHAOS.get((name, run, n), 0)))


def trained_or_init(name, weights):
    if weights == "init":
        return golden.load(f"{name}_init")
    return golden.part(golden.load(f"{name}_traj_fixed"), "final/")


# What the prototxts say

LAYERS = {
    "quick": "conv1 pool1 relu1 conv2 relu2 pool2 conv3 relu3 pool3 flatten ip1 ip2",
    "full": "conv1 pool1 relu1 norm1 conv2 relu2 pool2 norm2 conv3 relu3 pool3 flatten ip1",
    "full_sigmoid": "conv1 pool1 sigmoid1 conv2 sigmoid2 pool2 conv3 sigmoid3 pool3 flatten ip1",
    "full_sigmoid_bn": "conv1 pool1 bn1 sigmoid1 conv2 bn2 sigmoid2 pool2 conv3 bn3 sigmoid3 pool3 flatten ip1",
}
GROUPS = {  # weight / bias: std of the weight's filler, lr_mult, decay_mult
    "quick": {"conv1": (1e-4, "1/2", "1/1"), "conv2": (0.01, "1/2", "1/1"), "conv3": (0.01, "1/2", "1/1"),
              "ip1": (0.1, "1/2", "1/1"), "ip2": (0.1, "1/2", "1/1")},
    "full": {"conv1": (1e-4, "1/2", "1/1"), "conv2": (0.01, "1/2", "1/1"), "conv3": (0.01, "1/1", "1/1"),
             "ip1": (0.01, "1/2", "250/0")},
    "full_sigmoid": {"conv1": (1e-4, "1/2", "1/1"), "conv2": (0.01, "1/2", "1/1"), "conv3": (0.01, "1/1", "1/1"),
                     "ip1": (0.01, "1/2", "0/0")},
    "full_sigmoid_bn": {"conv1": (1e-4, "1", "1"), "conv2": (0.01, "1", "1"), "conv3": (0.01, "1", "1"),
                        "ip1": (0.01, "1/1", "1/0")},
}  # fmt: skip


def blobs_of(name):
    """Yield the name, filler's std, lr_mult and decay_mult of every parameter, in order."""
    for layer, (std, lr_mults, decay_mults) in GROUPS[name].items():
        mults = zip(lr_mults.split("/"), decay_mults.split("/"), strict=True)
        for kind, filler, (lr_mult, decay_mult) in zip(("weight", "bias"), (std, 0), mults, strict=False):
            yield f"{layer}.{kind}", filler, float(lr_mult), float(decay_mult)


@every_net
def test_layers_are_the_prototxts_and_pooling_rounds_up(name):
    net = NETS[name]().eval()
    shapes = {layer: tuple(output.shape[1:]) for layer, output in layers(net, torch.zeros(1, 3, 32, 32)).items()}
    assert list(shapes) == LAYERS[name].split()
    assert [shapes[k] for k in ("conv1", "pool1", "conv2", "pool2", "conv3", "pool3", "flatten")] == [
        (32, 32, 32), (32, 16, 16), (32, 16, 16), (32, 8, 8), (64, 8, 8), (64, 4, 4), (1024,),
    ]  # fmt: skip
    assert list(shapes.values())[-1] == (10,)


@pytest.mark.parametrize(("name", "count"), [*zip(NETS, (145_578, 89_578, 89_578, 89_450), strict=True)])
def test_parameters_are_counted_and_named_as_in_caffe(name, count):
    net = NETS[name]()
    assert sum(w.numel() for w in net.parameters()) == count
    assert [parameter for parameter, _ in net.named_parameters()] == [row[0] for row in blobs_of(name)]


@every_net
def test_param_groups_are_the_prototxts(name):
    net, own = NETS[name](), 0.004 if name in ("quick", "full") else 0.0
    for weight_decay in (None, 0.1):
        groups, decay = net.param_groups(weight_decay), own if weight_decay is None else weight_decay
        for group, (parameter, _, lr_mult, decay_mult) in zip(groups, blobs_of(name), strict=True):
            assert group == {
                "params": [net.get_parameter(parameter)], "name": parameter,
                "lr_mult": lr_mult, "weight_decay": decay * decay_mult,
            }  # fmt: skip
    for group in net.param_groups(0.1, mults=False):
        assert (group["lr_mult"], group["weight_decay"]) == (1, 0.1)


@every_net
def test_caffes_fillers_are_gaussian_with_zero_biases(name):
    net = NETS[name](generator=torch.Generator().manual_seed(0))
    for parameter, std, _, _ in blobs_of(name):
        w = net.get_parameter(parameter).detach()
        n = w.numel()
        assert w.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * n))
        assert abs(w.mean().item()) <= 4 * std / math.sqrt(n)
        assert w.abs().max().item() >= 2.5 * std  # a uniform draw of this std ends at 1.73


@every_net
def test_torch_init_draws_what_torchs_own_layers_draw(name):
    net = NETS[name]("torch", torch.Generator().manual_seed(5))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for layer in net:
            if isinstance(layer, nn.Conv2d):
                own = nn.Conv2d(layer.in_channels, layer.out_channels, 5, bias=layer.bias is not None)
            elif isinstance(layer, nn.Linear):
                own = nn.Linear(layer.in_features, layer.out_features)
            else:
                continue
            torch.testing.assert_close(dict(layer.named_parameters()), dict(own.named_parameters()))


@pytest.mark.parametrize("init", ["caffe", "torch"])
@every_net
def test_weights_come_from_the_generator_alone(name, init):
    before = torch.get_rng_state()
    first, same, other = (NETS[name](init, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["ip1.weight"], other["ip1.weight"])


@every_net
def test_a_net_is_made_on_the_default_device(name):
    with torch.device("meta"):
        net = NETS[name]()
    assert {value.device.type for value in net.state_dict().values()} == {"meta"}


# The layers that torch does not have, or has otherwise, against plain loops


def looped_lrn(x, size, alpha, beta):
    out, reach = torch.empty_like(x), size // 2
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            window = x[:, :, max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
            out[:, :, i, j] = x[:, :, i, j] / (1 + alpha * (window**2).sum((2, 3)) / size**2) ** beta
    return out


@every_layout
@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize("size", [1, 3, 5, 11])  # the last is wider than the picture
def test_lrn_and_its_gradient_agree_with_a_loop(size, beta, layout):
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    x = x.to(memory_format=layout).requires_grad_()
    lrn = WithinChannelLRN(size, alpha=2.0, beta=beta)
    torch.testing.assert_close(lrn(x), looped_lrn(x, size, 2.0, beta))
    torch.testing.assert_close(_window_mean(x, size), F.avg_pool2d(x, size, 1, size // 2))  # the way off the CPU
    assert torch.autograd.gradcheck(lrn, x)


def test_lrn_refuses_a_second_derivative():
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="create_graph must be False"):
        torch.autograd.grad(WithinChannelLRN()(x).sum(), x, create_graph=True)


@pytest.mark.parametrize(("layer", "reduce"), [("pool1", torch.amax), ("pool2", torch.mean)])
@pytest.mark.parametrize("side", [4, 5, 8])
def test_pools_clip_their_windows_at_the_border(layer, reduce, side):
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
    starts = range(0, side - 1, 2)  # Caffe: ceil((side - 3) / 2) + 1 windows
    rows = [torch.stack([reduce(x[:, :, i : i + 3, j : j + 3], (2, 3)) for j in starts], -1) for i in starts]
    torch.testing.assert_close(getattr(Cifar10Quick(), layer)(x), torch.stack(rows, -2))


def test_max_pool_sends_a_ties_gradient_to_the_first():
    x = torch.zeros(1, 1, 5, 5, requires_grad=True)
    Cifar10Quick().pool1(x).sum().backward()
    assert x.grad.nonzero()[:, 2:].tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


def test_batch_norm_keeps_caffes_sums():
    norm = CaffeBatchNorm(3).double()
    x = torch.randn(3, 10, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm.eval()(x[0]), x[0] / math.sqrt(1e-5))  # before any batch: mean 0, variance 0

    S, V, f = torch.zeros(3), torch.zeros(3), torch.zeros(())
    for batch in x:
        S = 0.999 * S + batch.mean((0, 2, 3))
        V = 0.999 * V + batch.var((0, 2, 3), unbiased=True)
        f = 0.999 * f + 1
        mean, var = batch.mean((0, 2, 3), keepdim=True), batch.var((0, 2, 3), unbiased=False, keepdim=True)
        torch.testing.assert_close(norm.train()(batch), (batch - mean) / (var + 1e-5).sqrt())

    kept = torch.cat([norm.running_mean, norm.running_var, norm.weight.view(1)])
    torch.testing.assert_close(kept, 0.001 * torch.cat([S, V, f.view(1)]), check_dtype=False)
    mean, var = (S / f).view(3, 1, 1), (V / f).view(3, 1, 1)
    torch.testing.assert_close(norm.eval()(x[0]), (x[0] - mean) / (var + 1e-5).sqrt())


@every_net
def test_no_value_is_read_back_from_the_device(name):  # a CUDA graph could not capture that
    net = NETS[name]().to("meta")  # reading a meta tensor's value is an error
    optimizer = CaffeSGD(net.param_groups(), lr=1.0)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(0.1, device="meta")
    for _ in range(2):
        optimizer.zero_grad()
        x, labels = torch.zeros(4, 3, 32, 32, device="meta"), torch.zeros(4, dtype=torch.long, device="meta")
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()


def test_weights_are_drawn_anew_from_a_known_start_alone():
    net = Cifar10Quick()
    before = net.state_dict()["conv1.weight"].clone()
    with pytest.raises(ValueError, match="init must be 'caffe' or 'torch', got 'tourch'"):
        net.reset_parameters("tourch")
    assert torch.equal(net.state_dict()["conv1.weight"], before)
