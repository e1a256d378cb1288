"""Many runs: the named experiments, what trains them, and the tables made of them."""

from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.runner import SCALES, Scale, configs, results_folder, run

__all__ = ["EXPERIMENTS", "SCALES", "Scale", "configs", "results_folder", "run"]
