"""What a run is: its `RunConfig` and its data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from clr import _checks
from clr.data import Cifar10
from clr.nets import NETS, RESNETS
from clr.optim import SOLVERS, WITHOUT_MOMENTUM
from clr.policies import Policy, from_dict, to_dict
from clr.results import ResultError

__all__ = ["RunConfig", "require_same_run", "run_spec"]


@dataclass(frozen=True)
class RunConfig:
    """Everything except the data that decides a run's numbers. Defaults are those of Caffe's cifar10 solvers.

    net: a name in `clr.nets.NETS`.  policy: the learning rate of each update.  iterations: updates in all.
    pixels: "caffe" (0 to 255 minus the mean image) or "unit" (0 to 1 minus the channel means).
    init: "caffe" (the prototxt's fillers) or "torch" (torch's default); "he", and no other, for a residual net.
    mults: use the prototxt's multipliers of rate and decay; False for a residual net.
    weight_decay: None for the solver's own, or the paper's of a residual net.
    reshuffle: a new order every epoch; otherwise one order per seed, as Caffe reads its database.
    evaluate_every: updates between evaluations.  test_pictures: how many, evenly spread; None for all.
    precision: "float32" or "bfloat16", of the forward and backward pass; weights and updates are float32 in both.
    hold_out_every: n >= 2 to hold out every n-th training image and evaluate on those; None for the test images.

    A new field's default is what the code did before: a result or checkpoint stored without the field stays valid.
    """

    net: str
    policy: Policy
    iterations: int
    seed: int = 0
    batch_size: int = 100
    pixels: str = "caffe"
    init: str = "caffe"
    mults: bool = True
    optimizer: str = "CaffeSGD"
    momentum: float = 0.9
    weight_decay: float | None = None
    reshuffle: bool = False
    evaluate_every: int = 500
    test_pictures: int | None = None
    hold_out_every: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        known = {"net": partial(_checks.choice, known=NETS), "optimizer": partial(_checks.choice, known=SOLVERS)}
        _checks.fields(self, _checks.RULES, **known)
        if not isinstance(self.policy, Policy):
            raise TypeError(f"policy must be one of clr's policies, got {_checks.brief(self.policy)}")
        inits = ("he",) if self.net in RESNETS else ("caffe", "torch")
        if self.init not in inits:
            raise ValueError(f"init must be {' or '.join(map(repr, inits))} for {self.net}, got {self.init!r}")
        if self.net in RESNETS and self.mults:
            raise ValueError(f"mults must be False for {self.net}, which has no prototxt, got True")
        if self.optimizer in WITHOUT_MOMENTUM and self.momentum:
            raise ValueError(f"momentum must be 0 for {self.optimizer}, which has none in Caffe, got {self.momentum}")

    @property
    def last_cycle_end(self) -> int:
        """Updates at the end of the last whole cycle, where a cyclical run is read; the end of a run without cycles."""
        cycle = getattr(self.policy, "cycle_length", 1)
        return self.iterations // cycle * cycle

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain JSON values."""
        return asdict(self) | {"policy": to_dict(self.policy)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Return the config that `to_dict` wrote. A field that is missing takes its default.

        Raises:
            ResultError: a field is unknown, or the values make no config; the message names the field.
        """
        if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
            raise ResultError(f"config.{unknown[0]} is unknown to this version")
        try:
            return cls(**{**values, "policy": from_dict(values["policy"])})
        except LookupError as error:
            raise ResultError(f"config has no {error}") from error
        except (TypeError, ValueError) as error:
            raise ResultError(f"this version cannot read the config ({error})") from error


def run_spec(config: RunConfig, data: Cifar10, tf32: bool = False) -> dict[str, Any]:
    """Return what a run is: its config, its data, and TF32 if it has that. With the same code, equal specs give equal
    numbers.
    """
    spec = {"config": config.to_dict(), "data": {"name": data.name, "fingerprint": data.fingerprint}}
    return spec | {"tf32": True} if tf32 else spec


def require_same_run(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a result or a checkpoint of another run.

    Args:
        path: the file, for the message.
        stored: the "config", "data" and "tf32" that the file holds.
        asked: the `run_spec` of the run that was asked for.

    Raises:
        ResultError: the two differ; the message names the first field, with both values.
    """
    try:
        found = {"config": RunConfig.from_dict(stored["config"]).to_dict(), "data": stored["data"]}
        found |= {"tf32": stored.get("tf32", False)}
    except ResultError as error:
        raise ResultError(f"{path} cannot be compared: {error}; delete it, or keep the results elsewhere") from error
    if difference := _first_mismatch("", found, {"tf32": False, **asked}):
        raise ResultError(f"{path} holds another run: {difference}; delete it, or keep the results elsewhere")


def _first_mismatch(name: str, found: Any, asked: Any) -> str | None:
    """Return the first field in which two specs differ, in words, or None."""
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        for key in [*asked, *(key for key in found if key not in asked)]:
            if difference := _first_mismatch(f"{name}.{key}".lstrip("."), found.get(key), asked.get(key)):
                return difference
        return None
    return None if found == asked else f"{name} is {_checks.brief(found)}, asked for {_checks.brief(asked)}"
