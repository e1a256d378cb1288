"""One run: its config, its loop, its update, and the machine that it is made on."""

from clr.training.config import RunConfig, require_same_run, run_spec
from clr.training.run import Run, Stopped, evaluate, train

__all__ = ["Run", "RunConfig", "Stopped", "evaluate", "require_same_run", "run_spec", "train"]
