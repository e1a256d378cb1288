"""What `make run` does: a first curve within a minute, the headline, and one page with all that was found."""

import os
from pathlib import Path

import joblib
import numpy as np

from clr import data, download, figures, paths
from clr.experiments import folders, pages, pictures, runner, scales, speed, tables
from clr.experiments.study import Study
from clr.figures.range_tests import fails_at
from clr.range_test import Bounds

__all__ = ["PARTS", "announce", "find_data", "reading", "run"]

FIRST = "quick-unit-held-out"  # the range test that is trained and drawn first
PARTS = {  # experiment and arms, in the order in which `make run` trains them, below full scale and there
    False: [("range-test", [FIRST]), ("headline", None), ("range-test", ["full-caffe-held-out"])],
    True: [("range-test", [FIRST]), ("headline", None), ("range-test", None)],
}
NOTEBOOK_SECONDS = 80  # all of them, two at a time, on a core that makes ten updates a second


def announce(scale: str) -> None:
    """Print what the main job will do and, from a few timed updates, about how long it takes here at most."""
    wanted = {
        (name, *key): config
        for name, arms in PARTS[scale == "full"]
        for key, config in scales.configs(name, None, scale, arms).items()
    }
    updates = sum(config.iterations for config in wanted.values())
    each = speed.seconds_per_update(next(iter(wanted.values())))
    seconds = each * (1.2 * updates / joblib.cpu_count() + 10 * NOTEBOOK_SECONDS)  # evaluations take a sixth
    print(
        f"Trains what is missing of {len(wanted)} runs ({updates:,} updates), executes the notebooks and writes one "
        f"HTML page: {speed.in_words(seconds)} here. Ctrl-C is safe; the same command goes on from there.",
        flush=True,
    )


def find_data() -> data.Cifar10:
    """Load CIFAR-10; where there is none, try once to download it, else take synthetic images."""
    if os.environ.get("CLR_DATA"):
        return data.load_cifar10()
    try:
        return data.load_cifar10()
    except data.NothingThereError as missing:
        print(f"{missing}\nTrying to download it; Ctrl-C goes on with synthetic images.", flush=True)
    try:
        return data.load_cifar10(download.download_cifar10())
    except (OSError, ImportError, RuntimeError, KeyboardInterrupt) as error:
        print(f"Not downloaded: {error or 'interrupted'}", flush=True)
        os.environ["CLR_DATA"] = "synthetic"
        return data.load_cifar10()


def run(scale: str, images: data.Cifar10, n_jobs: int | None = None) -> Path:
    """Train, draw, execute and write; say after each part where its result is. Return the path of the page."""
    synthetic = " (their accuracies say nothing about CIFAR-10)" * (images.name == "synthetic")
    print(f"Images: {images.name}{synthetic}, {len(images.train):,} + {len(images.test):,}", flush=True)
    study, folder = Study(scale, dataset=images.name), paths.home() / "runs" / f"{images.name}-{scale}"
    for name, arms in PARTS[scale == "full"]:
        runner.run(name, scale=scale, data=images, n_jobs=n_jobs, arms=arms)
        if arms == [FIRST]:
            _draw_first(study, folder)
    root = folders.results_folder(images.name, scale)
    executed = pages.execute(root.parent, folder / "notebooks", scale)
    table, words = tables.runs_table(root, images.name), reading(study)
    title = f"Cyclical learning rates: the scale {scale} on {images.name}"
    page = pages.write_index(folder / "index.html", title, words, table, executed, root.parent / "images")
    print(f"\n{table.to_string(index=False)}\n\n{words}\nEverything on one page: {_shown(page)}")
    return page


def _draw_first(study: Study, folder: Path) -> None:
    """Draw the range test, and say what it shows and where it is."""
    figures.style()
    figure = pictures.range_test(study, "quick-unit")
    if figure is None:
        return
    path = folder / "images" / "range-test-quick-unit.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    figure.clear()
    print(f"First curve: {_shown(path)}\n{_range_test_reading(pictures.bounds(study, FIRST))}", flush=True)


def _range_test_reading(bounds: Bounds) -> str:
    curve, fails = bounds.curve, fails_at(bounds.curve, bounds)
    best = curve.loc[curve["mean"].idxmax()]
    end = f", and training fails at {fails:.2g}: a schedule should stay below that" if np.isfinite(fails) else ""
    return (
        f"While the rate rises from {curve['lr'].min():.1g} to {curve['lr'].max():.1g}, accuracy climbs to "
        f"{best['mean']:.0%} at {best['lr']:.2g}{end}."
    )


def reading(study: Study) -> str:
    """Return in one sentence what the table shows: how the headline's two schedules end."""
    ends, words = study.ends("headline"), []
    for arm in ("triangular", "fixed"):
        rows = ends[ends["arm"] == arm]
        if len(rows):
            end, accuracy = rows["iteration"].iloc[0], rows["test_accuracy"].mean()
            words.append(f"{figures.base.look(arm)[2]} {accuracy:.1%} after {end:,} updates (n = {len(rows)})")
    images = "synthetic images, which say nothing about CIFAR-10" if study.name == "synthetic" else study.name
    return f"Accuracy on {images}: {'; '.join(words)}."


def _shown(path: Path) -> str:
    """Return a path as it is shortest to type; there is no way from C: to D:."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
