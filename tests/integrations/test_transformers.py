"""PolicyLR and the range test with Hugging Face's Trainer, on a tiny net made by hand."""

import page
import pytest
import torch

import clr

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate, which the Trainer needs, is not installed")

POLICY = clr.Triangular(0.001, 0.01, 5)


def names(folder, **options):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    words = torch.randint(20, (64, 6), generator=torch.Generator().manual_seed(1))
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=4,
        save_steps=13,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **{"max_steps": 24} | options,
    )
    return {
        "model": transformers.BertForSequenceClassification(config),
        "dataset": [{"input_ids": word, "labels": int(word[0] > 9)} for word in words],
        "arguments": arguments,
        "policy": POLICY,
    }


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_update_has_the_policys_rate_and_a_resume_changes_nothing(rates, tmp_path, accumulate):
    options = {"gradient_accumulation_steps": accumulate}
    whole = trained(names(tmp_path, **options), resume=False)
    again = trained(names(tmp_path, **options), resume=str(tmp_path / "checkpoint-13"))
    assert rates == [POLICY(k) for k in [*range(24), *range(13, 24)]]
    torch.testing.assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def trained(given, resume):
    """Train with the page's second block, where the policy was read from a file."""
    trainer = transformers.Trainer(given["model"], given["arguments"], train_dataset=given["dataset"])
    optimizer = trainer.create_optimizer()
    return page.run("Hugging Face Trainer", 1, **given, trainer=trainer, optimizer=optimizer, resume=resume)


def test_find_bounds_takes_the_trainers_batches_and_its_policy_ends_with_the_training(tmp_path, rates):
    given = names(tmp_path, max_steps=-1, num_train_epochs=3, gradient_accumulation_steps=3, weight_decay=0.1)
    before = {name: value.clone() for name, value in given["model"].state_dict().items()}
    found = page.run("Hugging Face Trainer", **given, val_dataset=given["dataset"], epochs=3)
    assert found.bounds.n_curves == 5 and "The metric is accuracy" in found.bounds.verdict
    torch.testing.assert_close(found.model.state_dict(), before, rtol=0, atol=0)
    rates.clear()
    after = page.run("Hugging Face Trainer", 1, **vars(found) | {"resume": False})
    assert after.trainer.state.global_step == found.updates == len(rates) == 18
    assert rates == [found.policy(k) for k in range(18)]
    assert {group["weight_decay"] for group in after.optimizer.param_groups} == {0.0, 0.1}
