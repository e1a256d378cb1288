"""Many runs: the named experiments, what trains them, and the tables made of them."""

from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.runner import (
    SCALES,
    Scale,
    check_machine,
    configs,
    kept_apart,
    queue_state,
    results_folder,
    run,
    run_queue,
)

__all__ = [
    "EXPERIMENTS", "SCALES", "Scale", "check_machine", "configs", "kept_apart", "queue_state", "results_folder", "run",
    "run_queue",
]  # fmt: skip
