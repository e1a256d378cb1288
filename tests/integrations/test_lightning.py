"""PolicyLR and the range test with a LightningModule."""

import page
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import clr

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")  # Lightning's use of torch
lightning = pytest.importorskip("lightning", reason="Lightning is not installed")

POLICY = clr.Triangular(0.01, 0.1, 5)


def module():
    torch.manual_seed(0)
    names = {"model": nn.Linear(4, 2), "loss_fn": nn.functional.cross_entropy, "policy": POLICY}
    return page.run("PyTorch Lightning", **names)


def loader():
    inputs = torch.randn(56, 4, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), batch_size=8)  # 7 batches


def trainer(epochs, **options):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return lightning.Trainer(max_epochs=epochs, accelerator="cpu", num_sanity_val_steps=0, **quiet, **options)


def fitted(epochs, checkpoint=None, **options):
    used = trainer(epochs, **options)
    used.fit(model := module().module, loader(), ckpt_path=checkpoint, weights_only=True)
    return used, model.state_dict()


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 7), (2, 4)])
def test_every_update_has_the_policys_rate_and_a_resume_changes_nothing(rates, tmp_path, accumulate, updates):
    first, _ = fitted(1, accumulate_grad_batches=accumulate)
    first.save_checkpoint(tmp_path / "checkpoint.ckpt")
    _, halves = fitted(3, tmp_path / "checkpoint.ckpt", accumulate_grad_batches=accumulate)
    assert rates == [POLICY(k) for k in range(3 * updates)]
    _, whole = fitted(3, accumulate_grad_batches=accumulate)
    torch.testing.assert_close(halves, whole, rtol=0, atol=0)


def test_pin_an_update_that_a_scaler_skips_uses_up_its_rate(rates):
    scaler = torch.amp.GradScaler("cpu")
    half = lightning.pytorch.plugins.MixedPrecision("16-mixed", "cpu", scaler=scaler)
    batches = loader()
    batches.dataset.tensors[0][4 * 8] = torch.inf
    trainer(1, plugins=[half]).fit(module().module, batches)
    assert rates == [POLICY(k) for k in (0, 1, 2, 3, 5, 6)]
    assert scaler.get_scale() == 2**15  # half of what it was
