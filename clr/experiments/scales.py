"""The scales: an experiment's runs at full length, or shrunk to 1/50 ("quick") or 1/1000 ("tiny").

Iterations, step sizes and drop points shrink together, so a curve keeps its shape; at "tiny" two stages that would
start at the same update become one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from typing import Any

from clr import _checks
from clr.experiments.catalogue import EXPERIMENTS
from clr.policies import Policy, Ramp, Stages
from clr.training import RunConfig

__all__ = ["SCALES", "Scale", "configs"]


@dataclass(frozen=True)
class Scale:
    """How much shorter than the paper: the scale divides everything counted in updates by `shrink`.

    A range test is divided by `range_test`, where that is given: its few updates pass all rates.
    """

    shrink: int
    evaluations: int  # how many times fewer evaluations a curve has than at full scale
    seeds: int
    test_pictures: int | None
    range_test: int | None = None


SCALES = {"full": Scale(1, 1, 5, None), "quick": Scale(50, 2, 2, 1000, 25), "tiny": Scale(1000, 10, 2, 500)}


def configs(
    name: str, seeds: int | None = None, scale: str = "full", arms: Sequence[str] | None = None,
    precision: str | None = None,
) -> dict[tuple[str, int], RunConfig]:  # fmt: skip
    """Return an experiment's runs by (arm, seed): all arms of seed 0, the longest first, then those of seed 1, ...

    Args:
        arms: names or patterns such as "adam-*"; None for all arms.
        precision: "float32" or "bfloat16"; None for the catalogue's.
    """
    _checks.choice("name", name, EXPERIMENTS)
    _checks.choice("scale", scale, SCALES)
    seeds = SCALES[scale].seeds if seeds is None else _checks.positive_int("seeds", seeds)
    chosen = _choose_arms(name, arms)
    by_length = sorted(chosen.items(), key=lambda arm: -arm[1].iterations)
    return {
        (arm, seed): _scaled(replace(config, seed=seed, precision=precision or config.precision), SCALES[scale])
        for seed in range(seeds)
        for arm, config in by_length
    }


def _choose_arms(name: str, arms: Sequence[str] | None) -> dict[str, RunConfig]:
    known = EXPERIMENTS[name].arms
    if arms is None:
        return known
    if isinstance(arms, str) or not arms or not all(isinstance(pattern, str) for pattern in arms):
        raise TypeError(f"arms must be a sequence of names, got {_checks.brief(arms)}")
    for pattern in arms:
        if not any(fnmatch(arm, pattern) for arm in known):
            raise ValueError(f"arms must be among those of {name} ({', '.join(known)}), got {pattern!r}")
    return {arm: config for arm, config in known.items() if any(fnmatch(arm, pattern) for pattern in arms)}


def _scaled(config: RunConfig, scale: Scale) -> RunConfig:
    shrink = (scale.range_test if isinstance(config.policy, Ramp) else None) or scale.shrink
    return replace(
        config,
        policy=_compress(config.policy, shrink),
        iterations=_divided(config.iterations, shrink),
        evaluate_every=_divided(config.evaluate_every * scale.evaluations, shrink),
        test_pictures=scale.test_pictures,
    )


def _divided(updates: int, by: int) -> int:
    return max(1, round(updates / by))


def _compress(policy: Policy, by: int) -> Policy:
    """Return the policy that goes through the same rates `by` times as fast."""
    if isinstance(policy, Stages):
        return Stages({round(start / by): _compress(stage, by) for start, stage in policy.stages})
    values: dict[str, Any] = {field.name: getattr(policy, field.name) for field in fields(policy)}  # type: ignore[arg-type]
    for name in ("step_size", "iterations"):
        if name in values:
            values[name] = _divided(values[name], by)
    if "warmup" in values:
        values["warmup"] = min(round(values["warmup"] / by), values["iterations"] - 1)
    if "gamma" in values:
        values["gamma"] **= by
    return type(policy)(**values)
