"""One job of an experiment: train, save, clean up."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clr import paths, results
from clr.data import Cifar10
from clr.training import Run, RunConfig, require_same_run, run_spec, train

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One run, as a worker gets it: everything except the images."""

    config: RunConfig
    folder: Path
    keep_weights: bool
    device: str
    rerun: bool
    tf32: bool = False

    def __call__(self, data: Cifar10, progress: Path, stop: Callable[[], bool] = lambda: False) -> None:
        """Train, and write the result; an interruption leaves a checkpoint to go on from."""
        if self.is_finished(data):  # another process finished it after the plan was made
            self.delete_checkpoint()
            return
        if self.rerun and not self._rerun_has_begun():
            self.delete_checkpoint()  # it belongs to the old run
        try:
            run = self._train(data, progress, stop)
        except results.ResultError:
            if not self.rerun:
                raise
            self.delete_checkpoint()  # damaged, or of other settings
            run = self._train(data, progress, stop)
        if not self.is_finished(data):  # of two processes that train it at once, the first keeps its result
            self._save(run, data)
        self.delete_checkpoint()

    def _train(self, data: Cifar10, progress: Path, stop: Callable[[], bool]) -> Run:
        return train(
            self.config,
            data,
            device=self.device,
            tf32=self.tf32,
            checkpoint=self._checkpoint,
            progress=lambda n: _write_progress(progress, n),
            stop=stop,
        )

    def is_finished(self, data: Cifar10) -> bool:
        """Return whether a result is there that stays: made here or by another process on the same folder."""
        if self.rerun or (found := results.load(self.folder, self.config.seed)) is None:
            return False
        path = results.run_path(self.folder, self.config.seed, ".json")
        require_same_run(path, found[1], run_spec(self.config, data, self.tf32))
        return True

    def delete_checkpoint(self) -> None:
        """Delete the checkpoint, also one that a killed process left behind."""
        with suppress(OSError):  # there is none, or it stays in a read-only folder, and harms nobody
            self._checkpoint.unlink()

    def has_checkpoint(self) -> bool:
        """Return whether an interrupted run left a checkpoint."""
        return self._checkpoint.exists()

    def _rerun_has_begun(self) -> bool:
        """Return whether the checkpoint is younger than the result."""
        result = results.run_path(self.folder, self.config.seed, ".json")
        return self.has_checkpoint() and (
            not result.exists() or self._checkpoint.stat().st_mtime > result.stat().st_mtime
        )

    def _save(self, run: Run, data: Cifar10) -> None:
        seed = self.config.seed
        if self.keep_weights:
            from safetensors.torch import save

            with paths.atomic_write(results.run_path(self.folder, seed, ".safetensors")) as part:
                part.write_bytes(save(run.weights))
        how = {"diverged": run.diverged, "provenance": run.provenance}
        results.save(self.folder, seed, run.rows, run_spec(self.config, data, self.tf32) | how)

    @property
    def _checkpoint(self) -> Path:
        return results.run_path(self.folder, self.config.seed, ".checkpoint")


def _write_progress(note: Path, iteration: int) -> None:
    with suppress(OSError):  # no run fails for its progress bar
        if note.parent.exists():
            note.write_text(str(iteration), encoding="utf-8")
