"""A run of eight updates, and what the tests of training ask of two runs."""

import dataclasses

import torch

from clr.policies import Triangular
from clr.training import RunConfig

CONFIG = RunConfig(
    net="Cifar10Quick", policy=Triangular(0.001, 0.01, 3), iterations=8, batch_size=20, pixels="unit", init="torch",
    mults=False, weight_decay=0.004, reshuffle=True, evaluate_every=3, test_pictures=100,
)  # fmt: skip


def changed(**values):
    return dataclasses.replace(CONFIG, **values)


def assert_same(first, second):
    assert first.rows == second.rows
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
