"""Many runs: the named experiments, what trains them, and the tables made of them."""

from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.folders import kept_apart, results_folder
from clr.experiments.runner import check_machine, queue_state, run, run_queue
from clr.experiments.scales import SCALES, Scale, configs

__all__ = [
    "EXPERIMENTS", "SCALES", "Scale", "check_machine", "configs", "kept_apart", "queue_state", "results_folder", "run",
    "run_queue",
]  # fmt: skip
