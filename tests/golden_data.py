"""What real Caffe computed: tests/golden/small.npz, and more in the folder that CLR_GOLDEN names.

An array LAYER.J is blob J of a layer: weight and bias, or a batch norm's two sums and their count.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clr import nets

NETS = {
    "quick": nets.Cifar10Quick,
    "full": nets.Cifar10Full,
    "full_sigmoid": nets.Cifar10FullSigmoid,
    "full_sigmoid_bn": nets.Cifar10FullSigmoidBN,
}


def load(name):
    """Return the arrays of CLR_GOLDEN/name.npz; skip the test where there is none."""
    folder = os.environ.get("CLR_GOLDEN")
    if not folder:
        pytest.skip("CLR_GOLDEN is not set to a folder of golden data")
    path = Path(folder) / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"there is no {path.name} where CLR_GOLDEN points")
    return dict(np.load(path))


def part(arrays, prefix):
    """Return the arrays under a prefix, by what follows it."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def small(name):
    """Return the arrays of one net in small.npz."""
    return part(dict(np.load(Path(__file__).parent / "golden" / "small.npz")), name)


def small_pictures():
    """Return the 400 pictures and labels that small.npz was made with."""
    rs = np.random.RandomState(0)
    labels = rs.randint(0, 10, 400)
    base = rs.randint(40, 216, (10, 3, 4, 4))
    noise = rs.randint(-40, 41, (400, 3, 32, 32))
    return (base[labels].repeat(8, 2).repeat(8, 3) + noise).clip(0, 255).astype(np.uint8), labels


def small_weights(net):
    """Return the weights that small.npz was made with, as LAYER.J."""
    rs = np.random.RandomState(1)
    std = {"conv1": 0.01, "conv2": 0.04, "conv3": 0.04, "ip1": 0.03, "ip2": 0.1}
    return {
        blob(name): rs.normal(0, 0.1 if name.endswith("bias") else std[name.split(".")[0]], w.shape).astype(np.float32)
        for name, w in net.named_parameters()
    }


def batches(images, labels):
    """Return the net's inputs, pictures minus their mean image, and labels in batches of 100."""
    x = images.astype(np.float32) - images.mean(0, dtype=np.float64).astype(np.float32)
    return list(zip(torch.from_numpy(x).split(100), torch.from_numpy(labels).split(100), strict=True))


def blob(name):
    """Return LAYER.J for a parameter or buffer of a net."""
    layer, kind = name.split(".")
    kinds = ["running_mean", "running_var", "weight"] if layer.startswith("bn") else ["weight", "bias"]
    return f"{layer}.{kinds.index(kind)}"


@torch.no_grad()
def set_blobs(net, blobs):
    """Copy arrays LAYER.J into the net; sums become the moving averages of weight .001 that it keeps."""
    for name, w in net.named_parameters():
        w.copy_(torch.from_numpy(blobs[blob(name)]))
    for name, average in net.named_buffers():
        total = blobs.get(blob(name), np.zeros(average.numel()))  # left out: nothing seen yet
        average.copy_(torch.from_numpy(0.001 * total).view(average.shape))


def bn_blobs(net):
    """Return the batch norms' moving averages as Caffe's sums and counts, LAYER.J."""
    return {blob(name): average.numpy() / 0.001 for name, average in net.named_buffers()}


def train(net, optimizer, data, rates):
    """Make one update a rate, on the batches in turn; return the loss before each."""
    losses = []
    for k, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = float(rate) * group["lr_mult"]
        x, labels = data[k % len(data)]
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def distance(ours, theirs):
    """Return the relative L2 distance."""
    ours, theirs = (np.asarray(torch.as_tensor(a).detach(), np.float64) for a in (ours, theirs))
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
