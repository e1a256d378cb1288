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
        max_steps=24,
        per_device_train_batch_size=4,
        save_steps=13,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **options,
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
    whole = page.run("Hugging Face Trainer", **names(tmp_path, **options), resume=False)
    again = page.run("Hugging Face Trainer", **names(tmp_path, **options), resume=str(tmp_path / "checkpoint-13"))
    assert rates == [POLICY(k) for k in [*range(24), *range(13, 24)]]
    torch.testing.assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_find_bounds_takes_batches_that_are_dicts(tmp_path):
    given = names(tmp_path)
    before = {name: value.clone() for name, value in given["model"].state_dict().items()}
    trainer = transformers.Trainer(given["model"], given["arguments"], train_dataset=given["dataset"])
    optimizer = torch.optim.AdamW(given["model"].parameters(), lr=1.0)
    batches = trainer.get_train_dataloader()
    found = page.run("Hugging Face Trainer", 1, **given, trainer=trainer, optimizer=optimizer, val_batches=batches)
    assert found.bounds.n_curves == 5 and "The metric is accuracy" in found.bounds.verdict
    torch.testing.assert_close(given["model"].state_dict(), before, rtol=0, atol=0)
