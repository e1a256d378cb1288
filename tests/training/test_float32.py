"""Exact float32: the flags while it is open and afterwards, for users of torch's old flags and of its new ones."""

import pytest
import torch

from clr.policies import Fixed
from clr.training import RunConfig, float32, train
from clr.training.float32 import exact_float32, is_tf32

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
new_flags = pytest.mark.skipif(not hasattr(matmul, "fp32_precision"), reason="torch before 2.9 has no fp32_precision")


@pytest.fixture(params=["new", "old"])
def flags(request, monkeypatch):
    """The flags of the precision: `fp32_precision`, or `allow_tf32` as on torch before 2.9."""
    if request.param == "new":
        if not hasattr(matmul, "fp32_precision"):
            pytest.skip("torch before 2.9 has no fp32_precision")
        return [(part, "fp32_precision") for part in (cudnn.conv, cudnn.rnn, matmul)]
    old = [(cudnn, "deterministic"), (cudnn, "benchmark"), (cudnn, "allow_tf32"), (matmul, "allow_tf32")]
    monkeypatch.setattr(float32, "_flags", lambda: old)
    return old[2:]


def values(flags):
    return [getattr(owner, name) for owner, name in flags]


@pytest.mark.parametrize("tf32", [False, True])
def test_flags_hold_until_the_last_thread_has_left_and_are_then_as_before(flags, tf32):
    before, other = values(flags), (cudnn.deterministic, cudnn.benchmark)
    inside = [{"fp32_precision": "tf32" if tf32 else "ieee"}.get(name, tf32) for _, name in flags]
    first, second = exact_float32(tf32), exact_float32(tf32)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert values(flags) == inside
    assert (cudnn.deterministic, cudnn.benchmark, is_tf32()) == (True, False, tf32)
    with pytest.raises(
        ValueError, match=f"tf32 must be {tf32}, as in the runs that go on in this process, got {not tf32}"
    ):
        exact_float32(not tf32).__enter__()
    second.__exit__(None, None, None)
    assert values(flags) == before
    assert (cudnn.deterministic, cudnn.benchmark) == other


@new_flags
@pytest.mark.parametrize(
    ("owner", "value"),
    [(torch.backends, "ieee"), (cudnn, "ieee"), (matmul, "tf32"), (getattr(cudnn, "conv", None), "ieee")],
    ids=["all", "cudnn", "matmul", "conv"],
)
def test_a_run_leaves_the_precision_that_the_user_set(small, owner, value):
    """Four places can be set. Reading `allow_tf32` is then an error, also on the CPU."""
    parts = [torch.backends, cudnn, cudnn.conv, cudnn.rnn, matmul]
    fresh = [part.fp32_precision for part in parts]
    try:
        owner.fp32_precision = value
        before = [part.fp32_precision for part in parts]
        assert before != fresh
        config = RunConfig("Cifar10Quick", Fixed(0.001), 1, batch_size=10, test_pictures=10)
        train(config, small)
        with exact_float32():
            assert [part.fp32_precision for part in (cudnn.conv, cudnn.rnn, matmul)] == ["ieee"] * 3
        assert [part.fp32_precision for part in parts] == before
    finally:
        for part, precision in zip(parts, fresh, strict=True):
            part.fp32_precision = precision


@new_flags
def test_whether_convolutions_are_in_tf32_is_read_from_theirs_alone():
    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    try:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "tf32", "ieee"
        assert is_tf32()
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "ieee", "tf32"
        assert not is_tf32()
    finally:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before


def test_an_error_inside_restores_the_flags(flags):
    before = values(flags)
    with pytest.raises(RuntimeError), exact_float32():
        raise RuntimeError
    assert values(flags) == before
