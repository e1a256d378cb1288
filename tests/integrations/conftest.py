"""What the integration tests share: the rates that optimizers really step with."""

import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook


@pytest.fixture
def rates():
    """The first group's rate at each step of any torch optimizer, whoever calls it; noted by torch's own hook."""
    seen = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(float(optimizer.param_groups[0]["lr"])))
    yield seen
    hook.remove()
