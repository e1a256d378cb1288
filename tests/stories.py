"""Whole stories that hypothesis tells: how many, and whether a fault that is put in is found.

`CLR_STORIES=500` tells 500 of each kind, with other draws every time. Without it the draws are always the same.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

STORIES = int(os.environ.get("CLR_STORIES", 0))


def told(examples: int, steps: int) -> settings:
    """Return the settings of a machine: so many stories, each of so many steps."""
    return settings(
        max_examples=STORIES or examples, stateful_step_count=steps, deadline=None,
        derandomize=not STORIES, suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def assert_finds(machine: type[RuleBasedStateMachine], stories: int = 1000, steps: int = 20) -> None:
    """Hold a machine to finding the fault that is in the code now; the rarest takes about 100 stories."""
    without_shrinking = settings(
        max_examples=stories, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
    )  # fmt: skip
    with pytest.raises((AssertionError, LookupError, OSError, ValueError)):
        run_state_machine_as_test(machine, settings=without_shrinking)
