"""Bad calls across the public names: each is an error that names the argument, and the value where it is short.

One table: what is called, the error, and what its message must hold. And: nothing is loaded that could run code.
"""

import io
import re
import tarfile
from fractions import Fraction
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

matplotlib.use("agg")

from matplotlib.figure import Figure

import clr
from clr import data, download, experiments, figures, nets, policies, results, training

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
WEIGHTS = [nn.Parameter(torch.zeros(2))]
MODEL = nn.Linear(2, 2)
LOADER = [(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))]
PICTURES, LABELS = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
SPLIT = data.Split(PICTURES, LABELS)
TOY = data.Cifar10(SPLIT, SPLIT, "toy", "none")
CONFIG = training.RunConfig("Cifar10Quick", clr.Fixed(0.1), 2, batch_size=2)
ROW = {"iteration": 1, "lr": 0.1, "train_loss": 1.0, "test_loss": 1.0, "test_accuracy": 0.1}
FRAME = pd.DataFrame([{"dataset": "toy", "experiment": "trial", "arm": "a", "seed": 0, **ROW}])
TWO = pd.concat([FRAME, FRAME.assign(experiment="b")])
CURVE = pd.DataFrame({"lr": np.linspace(0.01, 1, 20), "metric": np.linspace(0, 1, 20)})
AX = Figure().subplots()
LARGE = nn.Sequential(*(nn.Tanh() if i % 2 else nn.ReLU() for i in range(100)))  # in a message it would fill pages
WIDE = pd.DataFrame(columns=[f"column-{i}" for i in range(1000)])


def sgd():
    return torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)


def range_test(**changes):
    optimizer = torch.optim.SGD(MODEL.parameters(), lr=0.1)
    usual = {"start_lr": 0.1, "end_lr": 0.5, "iterations": 2, "progress": False, "val_loader": LOADER}
    positional = [MODEL, optimizer, F.cross_entropy, LOADER]
    for i, name in enumerate(("model", "optimizer", "loss_fn", "train_loader")):
        positional[i] = changes.pop(name, positional[i])
    return clr.lr_range_test(*positional, **usual | changes)


def find(**changes):
    usual = {"model": MODEL, "optimizer": torch.optim.SGD(MODEL.parameters()), "loss_fn": F.cross_entropy}
    return clr.find_bounds(**usual | {"train_loader": LOADER, "val_loader": LOADER} | changes)


def config(**changes):
    return training.RunConfig(**{"net": "Cifar10Quick", "policy": clr.Fixed(0.1), "iterations": 2} | changes)


def headline(**changes):
    return experiments.run(**{"name": "headline", "data": TOY, "n_jobs": 1} | changes)


def without(frame, column):
    return frame.drop(columns=column)


RATE, COUNT = "must be a finite number >= 0, got", "must be a positive integer, got"
BAD = [  # name of clr.__all__, call, error, what the message holds
    # policies
    ("Fixed", lambda: clr.Fixed(None), TypeError, "lr must be a number, got None"),
    ("Fixed", lambda: clr.Fixed(-0.1), ValueError, f"lr {RATE} -0.1"),
    ("Fixed", lambda: clr.Fixed(HUGE), ValueError, f"lr {RATE} 1000"),
    ("Fixed", lambda: clr.Fixed(1j), TypeError, "lr must be a number, got 1j"),
    ("Fixed", lambda: clr.Fixed(np.bool_(True)), TypeError, "lr must be a number, got np.True_"),
    ("Fixed", lambda: clr.Fixed(np.complex128(1)), TypeError, "lr must be a number, got np.complex128"),
    ("Fixed", lambda: clr.Fixed(torch.tensor(True)), TypeError, "lr must be a number, got tensor(True)"),
    ("Fixed", lambda: clr.Fixed(torch.zeros(2)), TypeError, "lr must be a number, got tensor([0., 0.])"),
    ("Fixed", lambda: clr.Fixed(0.1)(b"1"), TypeError, "iteration must be an integer"),
    ("Fixed", lambda: clr.Fixed(0.1)([1, 2]), TypeError, "iteration must be an integer"),
    ("Exp", lambda: clr.Exp("0.1", 0.9), TypeError, "base_lr must be a number, got '0.1'"),
    ("Exp", lambda: clr.Exp(0.1, -0.5), ValueError, "gamma must be in (0, 1], got -0.5"),
    ("Exp", lambda: clr.Exp(0.1, INF), ValueError, "gamma must be in (0, 1], got inf"),
    ("Exp", lambda: clr.Exp(0.1, 0.9)(Fraction(1, 2)), TypeError, "iteration must be an integer"),
    ("Decay", lambda: clr.Decay(0.2, 0.1, 5), ValueError, "max_lr must be at least base_lr (0.2), got 0.1"),
    ("Decay", lambda: clr.Decay(0.1, 0.2, -3), ValueError, f"step_size {COUNT} -3"),
    ("Decay", lambda: clr.Decay(0.1, 0.2, HUGE), ValueError, f"step_size {COUNT} 1000"),
    ("Triangular", lambda: clr.Triangular(0.1, None, 5), TypeError, "max_lr must be a number, got None"),
    ("Triangular", lambda: clr.Triangular(0.1, 0.2, {}), TypeError, "step_size must be a positive integer, got {}"),
    ("Triangular", lambda: clr.Triangular(0.1, 0.2, 5)(np.array([0.5])), TypeError, "iteration must be of an integer"),
    ("Triangular", lambda: clr.Triangular(0.1, 0.2, 5)(np.array(["1"])), TypeError, "iteration must be of an integer"),
    ("Triangular", lambda: clr.Triangular(0.1, 0.2, 5)(pd.Series([0.5])), TypeError, "iteration must be of an integer"),
    ("Triangular2", lambda: clr.Triangular2(NAN, 0.2, 5), ValueError, f"base_lr {RATE} nan"),
    ("Triangular2", lambda: clr.Triangular2(0.1, 0.2, 1e-9), ValueError, f"step_size {COUNT} 1e-09"),
    ("Triangular2", lambda: clr.Triangular2(0.1, 0.2, 5)(-7), ValueError, "iteration must be >= 0, got -7"),
    ("ExpRange", lambda: clr.ExpRange(0.1, 0.2, 5, 0), ValueError, "gamma must be in (0, 1], got 0"),
    ("ExpRange", lambda: clr.ExpRange(0.1, 0.2, 5, 0.9, None), ValueError, "decays must be 'bounds' or 'amplitude'"),
    ("ExpRange", lambda: clr.ExpRange(0.1, 0.2, 5, True), TypeError, "gamma must be a number, got True"),
    ("Parabolic", lambda: clr.Parabolic(0.1, INF, 5), ValueError, f"max_lr {RATE} inf"),
    ("Parabolic", lambda: clr.Parabolic(0.1, 0.2, 5)(None), TypeError, "iteration must be an integer"),
    ("Sinusoidal", lambda: clr.Sinusoidal(0.1, -0.2, 5), ValueError, f"max_lr {RATE} -0.2"),
    ("Sinusoidal", lambda: clr.Sinusoidal(0.1, 0.2, "5"), TypeError, "step_size must be a positive integer, got '5'"),
    ("Ramp", lambda: clr.Ramp(0.1, 0.2, 0.5), ValueError, f"iterations {COUNT} 0.5"),
    ("Ramp", lambda: clr.Ramp([], 0.2, 5), TypeError, "start_lr must be a number, got []"),
    ("Ramp", lambda: clr.Ramp(0.1, NAN, 5), ValueError, f"end_lr {RATE} nan"),
    ("Ramp", lambda: clr.Ramp(0.1, 0.2, 5, "cosine"), ValueError, "spacing must be 'linear' or 'exponential', got 'co"),
    ("OneCycle", lambda: clr.OneCycle(0.1, 0.2, None), TypeError, "iterations must be a positive integer, got None"),
    ("OneCycle", lambda: clr.OneCycle(0.1, 0.05, 5), ValueError, "max_lr must be at least base_lr (0.1), got 0.05"),
    ("Cosine", lambda: clr.Cosine(0.1, 5, "0"), TypeError, "warmup must be an integer >= 0, got '0'"),
    ("Cosine", lambda: clr.Cosine(0.1, 5, 5), ValueError, "warmup must be less than iterations (5), got 5"),
    ("Stages", lambda: clr.Stages(None), TypeError, "stages must be a mapping of first iterations to policies"),
    ("Stages", lambda: clr.Stages(((0, clr.Fixed(1), 2),)), TypeError, "stages must be a mapping"),
    ("Stages", lambda: clr.Stages((1, 2)), TypeError, "stages must be a mapping"),
    ("Stages", lambda: clr.Stages({0: clr.Fixed}), TypeError, "stages must hold policies, got <class"),
    ("Stages", lambda: clr.Stages({0.0: clr.Fixed(1)}), ValueError, "stages must start at integers >= 0, got 0.0"),
    ("Policy", lambda: clr.Policy()(0), NotImplementedError, "Policy must define _rate(k)"),
    ("Policy", lambda: clr.Policy(0.1), TypeError, "takes no arguments"),
    ("policies", lambda: policies.to_dict(None), TypeError, "policy must be one of clr's policies, got None"),
    ("policies", lambda: policies.from_dict("Fixed"), TypeError, "values must be a mapping that to_dict wrote"),
    ("cyclic_learning_rate", lambda: clr.cyclic_learning_rate("5"), TypeError, "must be an integer"),
    ("cyclic_learning_rate", lambda: clr.cyclic_learning_rate(5, max_lr=NAN), ValueError, f"max_lr {RATE} nan"),
    ("cyclic_learning_rate", lambda: clr.cyclic_learning_rate(5, 0.2, 0.1), ValueError, "max_lr must be at least base"),
    ("cyclic_learning_rate", lambda: clr.cyclic_learning_rate(5, step_size=0), ValueError, f"step_size {COUNT} 0"),
    ("cyclic_learning_rate", lambda: clr.cyclic_learning_rate(5, mode=None), ValueError, "mode must be"),
    ("cyclic_learning_rate", lambda: clr.cyclic_learning_rate(5, gamma=7, mode="exp_range"), ValueError, "gamma must"),
    ("step_size", lambda: clr.step_size("50000", 100), TypeError, "examples must be a positive integer, got '50000'"),
    ("step_size", lambda: clr.step_size(50, -1), ValueError, f"batch_size {COUNT} -1"),
    ("step_size", lambda: clr.step_size(50, 10, NAN), ValueError, "epochs must be a positive number, got nan"),
    # scheduler and optimizer
    ("PolicyLR", lambda: clr.PolicyLR(None, clr.Fixed(1)), TypeError, "optimizer must be a torch.optim.Optimizer, got"),
    (
        "PolicyLR",
        lambda: clr.PolicyLR(LARGE, clr.Fixed(1)),
        TypeError,
        "optimizer must be a torch.optim.Optimizer, got",
    ),
    ("PolicyLR", lambda: clr.PolicyLR(sgd(), 0.1), TypeError, "policy must be a policy or a callable of the iteration"),
    ("PolicyLR", lambda: clr.PolicyLR(sgd(), lambda k: -1), ValueError, f"policy(0) {RATE} -1"),
    ("PolicyLR", lambda: clr.PolicyLR(sgd(), lambda k: "1"), TypeError, "policy(0) must be a number, got '1'"),
    ("PolicyLR", lambda: clr.PolicyLR(sgd(), clr.Fixed(1), momentum=0.9), TypeError, "momentum must be a policy or a"),
    ("PolicyLR", lambda: clr.PolicyLR(sgd(), clr.Fixed(1), lambda k: 1.5), ValueError, "momentum(0) must be < 1, got"),
    ("CaffeSGD", lambda: clr.CaffeSGD([], 0.1), ValueError, "empty parameter list"),
    ("CaffeSGD", lambda: clr.CaffeSGD(WEIGHTS, None), TypeError, "lr must be a number, got None"),
    ("CaffeSGD", lambda: clr.CaffeSGD(WEIGHTS, torch.zeros(2)), TypeError, "lr must be a number"),
    ("CaffeSGD", lambda: clr.CaffeSGD(WEIGHTS, 0.1, momentum=1), ValueError, "momentum must be in [0, 1), got 1"),
    ("CaffeSGD", lambda: clr.CaffeSGD(WEIGHTS, 0.1, weight_decay=-1), ValueError, f"weight_decay {RATE} -1"),
    ("CaffeSGD", lambda: clr.CaffeSGD(WEIGHTS, 0.1, nesterov="no"), TypeError, "nesterov must be True or False, got"),
    # nets
    ("Cifar10Quick", lambda: clr.Cifar10Quick("zeros"), ValueError, "init must be 'caffe' or 'torch', got 'zeros'"),
    ("Cifar10Quick", lambda: clr.Cifar10Quick("torch", 5), TypeError, "generator must be a torch.Generator, got 5"),
    ("Cifar10Full", lambda: clr.Cifar10Full(None), ValueError, "init must be 'caffe' or 'torch', got None"),
    ("Cifar10Full", lambda: clr.Cifar10Full().param_groups(NAN), ValueError, f"weight_decay {RATE} nan"),
    ("Cifar10FullSigmoid", lambda: clr.Cifar10FullSigmoid(1), ValueError, "init must be 'caffe' or 'torch', got 1"),
    ("Cifar10FullSigmoid", lambda: clr.Cifar10FullSigmoid().param_groups(None, "no"), TypeError, "mults must be True"),
    ("Cifar10FullSigmoidBN", lambda: clr.Cifar10FullSigmoidBN(generator="cpu"), TypeError, "generator must be a torch"),
    ("Cifar10ResNet", lambda: clr.Cifar10ResNet(9), ValueError, "depth must be 6n + 2 (8, 14, 20, ...), got 9"),
    ("Cifar10ResNet", lambda: clr.Cifar10ResNet(8, "torch"), ValueError, "init must be 'he', got 'torch'"),
    ("Cifar10ResNet", lambda: clr.Cifar10ResNet(generator=5), TypeError, "generator must be a torch.Generator, got 5"),
    ("Cifar10ResNet", lambda: clr.Cifar10ResNet().param_groups(mults=True), ValueError, "mults must be False for a re"),
    ("Cifar10ResNet", lambda: clr.Cifar10ResNet().param_groups(-1.0), ValueError, f"weight_decay {RATE} -1.0"),
    ("nets", lambda: nets.WithinChannelLRN(4), ValueError, "size must be a positive odd integer, got 4"),
    ("nets", lambda: nets.WithinChannelLRN(True), ValueError, "size must be a positive odd integer, got True"),
    ("nets", lambda: nets.WithinChannelLRN(-1), ValueError, "size must be a positive odd integer, got -1"),
    ("nets", lambda: nets.WithinChannelLRN(3, -1.0), ValueError, f"alpha {RATE} -1.0"),
    ("nets", lambda: nets.WithinChannelLRN(3, beta=NAN), ValueError, f"beta {RATE} nan"),
    # data
    ("load_cifar10", lambda: clr.load_cifar10(5), TypeError, "root must be a path, got 5"),
    ("load_cifar10", lambda: clr.load_cifar10(""), TypeError, "root must be a path, got ''"),
    ("load_cifar10", lambda: clr.load_cifar10("/no/where"), FileNotFoundError, "no CIFAR-10 in /no/where"),
    ("synthetic_cifar10", lambda: clr.synthetic_cifar10(0), ValueError, f"train {COUNT} 0"),
    ("synthetic_cifar10", lambda: clr.synthetic_cifar10(5, "5"), TypeError, "test must be a positive integer, got '5'"),
    ("synthetic_cifar10", lambda: clr.synthetic_cifar10(5, 5, None), ValueError, "seed must be an integer from 0"),
    ("synthetic_cifar10", lambda: clr.synthetic_cifar10(5, 5, -1), ValueError, "seed must be an integer from 0 to"),
    ("data", lambda: download.download_cifar10(5), TypeError, "root must be a path, got 5"),
    ("data", lambda: data.Split(None, LABELS), TypeError, "images must be a tensor, got NoneType"),
    ("data", lambda: data.Split(PICTURES, LABELS.numpy()), TypeError, "labels must be a tensor, got ndarray"),
    ("data", lambda: data.Split(PICTURES.float(), LABELS), ValueError, "images must be uint8 (N, 3, 32, 32), got"),
    ("data", lambda: data.Split(PICTURES[..., 4:, 4:], LABELS), ValueError, "got torch.uint8 (4, 3, 28, 28)"),
    ("data", lambda: data.Split(PICTURES, LABELS[:3]), ValueError, "labels must be int64 (4,), got torch.int64 (3,)"),
    ("data", lambda: data.Split(PICTURES, LABELS + 10), ValueError, "labels must be 0 to 9, got 10 to 10"),
    ("data", lambda: data.Cifar10(None, SPLIT, "toy", ""), TypeError, "train must be a Split, got None"),
    ("data", lambda: data.Cifar10(SPLIT, SPLIT, "../toy", ""), ValueError, "name must be one that a folder can have"),
    ("data", lambda: data.Cifar10(SPLIT, SPLIT, "toy", None), TypeError, "fingerprint must be a string, got None"),
    # the range test and its bounds
    ("lr_range_test", lambda: range_test(model=None), TypeError, "model must be a torch.nn.Module, got None"),
    ("lr_range_test", lambda: range_test(optimizer=sgd()), ValueError, "optimizer must hold parameters of the model"),
    ("lr_range_test", lambda: range_test(loss_fn=None), TypeError, "loss_fn must be a callable, got None"),
    ("lr_range_test", lambda: range_test(train_loader=iter(LOADER)), TypeError, "train_loader must be an iterable"),
    ("lr_range_test", lambda: range_test(val_loader=5), TypeError, "val_loader must be an iterable"),
    ("lr_range_test", lambda: range_test(start_lr=None), TypeError, "start_lr must be a number, got None"),
    ("lr_range_test", lambda: range_test(end_lr=0.1), ValueError, "end_lr must be greater than start_lr = 0.1"),
    ("lr_range_test", lambda: range_test(iterations=HUGE), ValueError, f"iterations {COUNT} 1000"),
    ("lr_range_test", lambda: range_test(eval_every=-1), ValueError, f"eval_every {COUNT} -1"),
    ("lr_range_test", lambda: range_test(eval_batches="1"), TypeError, "eval_batches must be a positive integer"),
    ("lr_range_test", lambda: range_test(accumulation_steps=0), ValueError, f"accumulation_steps {COUNT} 0"),
    ("lr_range_test", lambda: range_test(forward="model"), TypeError, "forward must be a callable, got 'model'"),
    ("lr_range_test", lambda: range_test(autocast="bfloat16"), TypeError, "autocast must be a torch dtype, such as"),
    ("lr_range_test", lambda: range_test(stop_when_diverged="no"), TypeError, "stop_when_diverged must be True or"),
    ("lr_range_test", lambda: range_test(progress=None), TypeError, "progress must be True or False, got None"),
    ("lr_range_test", lambda: range_test(seed=1.5), ValueError, "seed must be an integer from 0 to 2**32 - 1"),
    ("lr_range_test", lambda: range_test(loss_fn=lambda x, y: None), ValueError, "loss_fn must return a scalar tensor"),
    ("find_bounds", lambda: clr.find_bounds(None, None, F.cross_entropy, LOADER), TypeError, "model must be a torch"),
    ("find_bounds", lambda: find(optimizer=5), TypeError, "optimizer must be a torch.optim.Optimizer, got 5"),
    ("find_bounds", lambda: find(loss_fn="mse"), TypeError, "loss_fn must be a callable, got 'mse'"),
    ("find_bounds", lambda: find(train_loader=iter(LOADER)), TypeError, "train_loader must be an iterable"),
    ("find_bounds", lambda: find(scaler=LARGE), TypeError, "scaler must be a torch.amp.GradScaler, got"),
    ("find_bounds", lambda: find(seeds=2.5), ValueError, f"seeds {COUNT} 2.5"),
    ("find_bounds", lambda: find(iterations="9"), TypeError, "iterations must be a positive integer, got '9'"),
    ("find_bounds", lambda: find(accumulation_steps=0), ValueError, f"accumulation_steps {COUNT} 0"),
    ("find_bounds", lambda: find(start_lr=NAN), ValueError, f"start_lr {RATE} nan"),
    ("Bounds", lambda: clr.suggest_bounds(CURVE).peak_lr("cyclic"), ValueError, "schedule must be 'constant' or"),
    ("Bounds", lambda: clr.suggest_bounds(CURVE).policy("linear", 0), ValueError, f"iterations {COUNT} 0"),
    ("Bounds", lambda: clr.suggest_bounds(CURVE).policy("linear", 9), ValueError, "schedule must have a known peak"),
    ("Bounds", lambda: clr.Bounds.from_json(5), TypeError, "path must be a path, got 5"),
    ("suggest_bounds", lambda: clr.suggest_bounds(None), TypeError, "tests must be range tests or a DataFrame"),
    ("suggest_bounds", lambda: clr.suggest_bounds([]), ValueError, "tests must hold at least one curve"),
    ("suggest_bounds", lambda: clr.suggest_bounds([CURVE]), TypeError, "tests must be range tests or a DataFrame"),
    ("suggest_bounds", lambda: clr.suggest_bounds(CURVE.iloc[:0]), ValueError, "tests must hold at least one curve"),
    ("suggest_bounds", lambda: clr.suggest_bounds(without(CURVE, "lr")), ValueError, "tests must have the column 'lr'"),
    ("suggest_bounds", lambda: clr.suggest_bounds(WIDE), ValueError, "tests must have the column 'lr' (rename yours)"),
    ("suggest_bounds", lambda: clr.suggest_bounds(CURVE.astype(str)), TypeError, "tests must hold numbers in"),
    ("suggest_bounds", lambda: clr.suggest_bounds(CURVE.assign(lr=-CURVE["lr"])), ValueError, "finite rates >= 0"),
    ("RangeTest", lambda: clr.RangeTest(CURVE).plot(5), TypeError, "ax must be matplotlib axes, got 5"),
    ("range_test", lambda: clr.suggest_bounds(CURVE).plot("ax"), TypeError, "ax must be matplotlib axes, got 'ax'"),
    # runs and experiments
    ("training", lambda: config(net=5), ValueError, "net must be 'Cifar10Quick' or"),
    ("training", lambda: config(pixels="float"), ValueError, "pixels must be 'caffe' or 'unit', got 'float'"),
    ("training", lambda: config(init="zeros"), ValueError, "init must be 'caffe' or 'torch' or 'he', got 'zeros'"),
    ("training", lambda: config(policy="Fixed"), TypeError, "policy must be one of clr's policies, got 'Fixed'"),
    ("training", lambda: config(iterations=None), TypeError, "iterations must be a positive integer, got None"),
    ("training", lambda: config(seed=2**32), ValueError, "seed must be an integer from 0 to 2**32 - 1, got 4294967296"),
    ("training", lambda: config(seed=True), ValueError, "seed must be an integer from 0 to 2**32 - 1, got True"),
    ("training", lambda: config(batch_size=INF), ValueError, f"batch_size {COUNT} inf"),
    ("training", lambda: config(momentum=NAN), ValueError, "momentum must be in [0, 1), got nan"),
    ("training", lambda: config(weight_decay="0"), TypeError, "weight_decay must be a number, got '0'"),
    ("training", lambda: config(mults="no"), TypeError, "mults must be True or False, got 'no'"),
    ("training", lambda: config(reshuffle=1), TypeError, "reshuffle must be True or False, got 1"),
    ("training", lambda: config(test_pictures=0), ValueError, f"test_pictures {COUNT} 0"),
    ("training", lambda: config(optimizer="AdaGrad"), ValueError, "momentum must be 0 for AdaGrad"),
    ("training", lambda: config(optimizer="AdamW"), ValueError, "optimizer must be 'CaffeSGD' or"),
    ("training", lambda: training.train(None, TOY), TypeError, "config must be a RunConfig, got None"),
    ("training", lambda: training.train(CONFIG, SPLIT), TypeError, "data must be a data set of clr.data, got Split"),
    ("training", lambda: training.train(CONFIG, TOY, threads=0), ValueError, f"threads {COUNT} 0"),
    ("training", lambda: training.train(CONFIG, TOY, checkpoint=5), TypeError, "checkpoint must be a path, got 5"),
    ("training", lambda: training.train(CONFIG, TOY, progress=5), TypeError, "progress must be a callable, got 5"),
    ("training", lambda: training.train(config(batch_size=9), TOY), ValueError, "batch_size must be at most the 4"),
    ("experiments", lambda: headline(name="none"), ValueError, "name must be 'headline' or 'range-test'"),
    ("experiments", lambda: headline(seeds=0), ValueError, f"seeds {COUNT} 0"),
    ("experiments", lambda: headline(scale=1), ValueError, "scale must be 'full' or"),
    ("experiments", lambda: headline(data=5), TypeError, "data must be a data set of clr.data, got 5"),
    ("experiments", lambda: headline(device="gpu"), ValueError, "device must be one of torch's"),
    ("experiments", lambda: headline(device=[]), ValueError, "device must be one of torch's"),
    ("experiments", lambda: headline(device="cuda:99"), ValueError, "device must be one that torch can see ("),
    ("experiments", lambda: headline(n_jobs=-2), ValueError, f"n_jobs {COUNT} -2"),
    ("experiments", lambda: headline(n_jobs="2"), TypeError, "n_jobs must be a positive"),
    ("experiments", lambda: headline(rerun="no"), TypeError, "rerun must be True or False"),
    ("experiments", lambda: headline(results_dir=5), TypeError, "results_dir must be a path"),
    ("experiments", lambda: experiments.configs(None), ValueError, "name must be 'headline' or 'range-test' or"),
    ("experiments", lambda: experiments.results_folder("toy", "huge"), ValueError, "scale must be 'full'"),
    # results
    ("results", lambda: results.save(5, 0, [ROW], {}), TypeError, "folder must be a path, got 5"),
    ("results", lambda: results.save("a", -1, [ROW], {}), ValueError, "seed must be an integer from 0 to"),
    ("results", lambda: results.save("a", 0, [], {}), ValueError, "rows must each have iteration, lr, train_loss"),
    ("results", lambda: results.save("a", 0, [ROW, {}] * 1000, {}), ValueError, "rows must each have iteration, lr"),
    ("results", lambda: results.save("a", 0, [{"iteration": 1}], {}), ValueError, "rows must each have iteration, lr"),
    ("results", lambda: results.save("a", 0, [ROW], {"data": {}}), ValueError, "config and data, got no config"),
    ("results", lambda: results.load(None, 0), TypeError, "folder must be a path, got None"),
    ("results", lambda: results.read(5), TypeError, "results_dir must be a path, got 5"),
    ("results", lambda: results.records(0.5), TypeError, "results_dir must be a path, got 0.5"),
    ("results", lambda: results.interval("abc"), TypeError, "values must be numbers, got 'abc'"),
    ("results", lambda: results.interval(["a"] * 1000), TypeError, "values must be numbers, got ['a', 'a'"),
    ("results", lambda: results.interval(0.5), ValueError, "values must be a sequence of numbers, got"),
    ("results", lambda: results.rows_at(None), TypeError, "frame must be a DataFrame, got None"),
    ("results", lambda: results.rows_at(FRAME, "1"), TypeError, "iteration must be a positive integer, got '1'"),
    ("results", lambda: results.summarise(5), TypeError, "frame must be a DataFrame, got 5"),
    ("results", lambda: results.summarise(without(FRAME, "seed")), ValueError, "frame must have the column 'seed'"),
    ("results", lambda: results.paired_difference(FRAME, None), TypeError, "second must be a DataFrame, got None"),
    (
        "results",
        lambda: results.paired_difference(without(FRAME, "seed"), FRAME),
        ValueError,
        "first must have the column",
    ),
    ("results", lambda: results.iterations_to_accuracy(FRAME, 75), ValueError, "accuracy must be from 0 to 1, got 75"),
    # figures
    ("figures", lambda: figures.draw_rates(None, {}, 5), TypeError, "ax must be matplotlib axes, got None"),
    ("figures", lambda: figures.draw_rates(AX, [clr.Fixed(1)], 5), TypeError, "policies must be a mapping of names to"),
    ("figures", lambda: figures.draw_rates(AX, {"a": 0.1}, 5), TypeError, "policies['a'] must be a callable, got 0.1"),
    ("figures", lambda: figures.draw_rates(AX, {"a": clr.Fixed(1)}, 0), ValueError, f"iterations {COUNT} 0"),
    ("figures", lambda: figures.draw_accuracy(AX, None), TypeError, "frame must be a DataFrame, got None"),
    ("figures", lambda: figures.draw_accuracy(AX, without(FRAME, "arm")), ValueError, "frame must have the column"),
    ("figures", lambda: figures.draw_accuracy(AX, FRAME, {"a": 0}), ValueError, f"cycles['a'] {COUNT} 0"),
    ("figures", lambda: figures.draw_accuracy(AX, TWO), ValueError, "frame must hold one experiment, got trial, b"),
    ("figures", lambda: figures.draw_cycles([AX, AX], FRAME, 0), ValueError, f"cycle {COUNT} 0"),
    ("figures", lambda: figures.draw_cycles([AX, AX], FRAME, 4000), ValueError, "frame must reach the end of a cycle"),
    ("figures", lambda: figures.draw_cycle_ends(AX, FRAME, 0, ["a"]), ValueError, f"cycle {COUNT} 0"),
    ("figures", lambda: figures.draw_headline([AX], FRAME, 20), ValueError, "axes must be two, for accuracy and rates"),
    ("figures", lambda: figures.draw_headline([AX, AX], FRAME, 20), ValueError, "frame must hold the arm 'fixed'"),
    ("figures", lambda: figures.draw_controls([AX, 5], FRAME, {}, ("a", "b")), TypeError, "ax must be matplotlib axes"),
    ("figures", lambda: figures.draw_differences(AX, FRAME, "a"), ValueError, "table must have the column 'points'"),
    ("figures", lambda: figures.draw_paper(AX, FRAME), ValueError, "arms must have the column 'accuracy', got"),
    ("figures", lambda: figures.draw_init(None, FRAME), TypeError, "ax must be matplotlib axes, got None"),
    ("figures", lambda: figures.draw_range_test(AX, CURVE), ValueError, "curve must have the column 'mean', got lr"),
    ("figures", lambda: figures.draw_range_test(AX, CURVE.assign(mean=1), spacing="log"), ValueError, "spacing must"),
]
PLAIN = {"optim", "schedulers"}  # modules whose only functions and classes are in clr.__all__ themselves


@pytest.mark.parametrize(("name", "call", "error", "message"), BAD, ids=[f"{i}-{row[0]}" for i, row in enumerate(BAD)])
def test_a_bad_call_names_its_argument_and_writes_nothing(monkeypatch, tmp_path, name, call, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(message)) as raised:
        call()
    assert len(str(raised.value)) < 500 and not list(tmp_path.rglob("*"))


def test_the_table_has_every_public_name_that_takes_arguments():
    assert {row[0] for row in BAD} == set(clr.__all__) - PLAIN
    for module in PLAIN:
        module = getattr(clr, module)
        assert {name for name in module.__all__ if callable(getattr(module, name))} <= set(clr.__all__)


# Nothing is loaded that could run code or leave its folder.

SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(Path(clr.__file__).parent.rglob("*.py"))}


def test_nothing_is_unpickled_and_nothing_is_unpacked_unchecked():
    unsafe = r"pickle\.loads?\(|Unpickler|allow_pickle=True|extractall|unpack_archive|weights_only=False|joblib\.load\("
    for path, source in SOURCES.items():
        assert not re.search(unsafe, source), path
        assert not re.search(r"(?<![.\w])(eval|exec)\(", source), path
        for call in re.findall(r"torch\.load\(.*", source):
            assert "weights_only=True" in call, path
        for call in re.findall(r"np\.load\(.*", source):
            assert "allow_pickle=False" in call, path


def offline(*arguments, **options):
    raise OSError("offline")


def archive(path, names):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))


def test_an_archive_that_is_not_the_published_one_is_not_unpacked(monkeypatch, tmp_path):
    """torchvision unpacks; it looks at the archive's md5 first."""
    folder = tmp_path / "data"
    folder.mkdir()
    archive(folder / "cifar-10-python.tar.gz", ["../x", "cifar-10-batches-py/data_batch_1"])
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(OSError, match="offline"):  # it would fetch the real one
        download.download_cifar10(folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cifar-10-python.tar.gz", "data"]
