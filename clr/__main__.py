"""The command line: `python -m clr --help`."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import pandas as pd
import torch

from clr import data, experiments, paths
from clr.experiments import tables

MAIN = ("headline", "range-test")  # what `make run` runs


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt as interrupt:
        known = str(interrupt) or "Interrupted. Nothing finished is lost: the same command goes on from here."
        print(f"\n{known}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        notes = getattr(error, "__notes__", [])
        print(f"clr: {error}", *notes[-1:], sep="\n", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clr", description="Cyclical learning rates: run and report.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function: object, summary: str, scaled: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=function)
        if scaled:
            added.add_argument("--scale", choices=experiments.SCALES, default="full", help="full by default")
        return added

    run = command("run", _run, "train what is missing of the named experiments", scaled=True)
    run.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(experiments.EXPERIMENTS)}")
    run.add_argument("--all", action="store_true", help="every experiment")
    run.add_argument("--rerun", action="store_true", help="train anew also what has finished")
    run.add_argument("--seeds", type=int, help="runs an arm (full 5, quick 3, tiny 2)")
    run.add_argument("--device", help="a torch device; CUDA where there is one, else the CPU")
    command("list", _list, "what has finished and what has not", scaled=True)
    command("table", _table, "a table of what has finished", scaled=True)
    command("data", lambda options: print(data.download_cifar10()), "download CIFAR-10 into data/ (170 MB)")
    job = command("main", _main, "the main job: find data, run, execute the notebooks, print a table", scaled=True)
    for added in (run, job):
        added.add_argument("--n-jobs", type=int, help="runs side by side; one per core on the CPU, ten on CUDA")
    return parser


def _run(options: argparse.Namespace) -> None:
    names = list(experiments.EXPERIMENTS) if options.all else options.names
    if not names:
        raise ValueError(f"name an experiment, or --all; there are {', '.join(experiments.EXPERIMENTS)}")
    for name in names:
        experiments.configs(name, options.seeds, options.scale)  # a wrong name is said before anything is trained
    pictures = data.load_cifar10()
    for name in names:
        experiments.run(name, options.seeds, options.scale, pictures, options.device, options.n_jobs, options.rerun)
    print(f"Results: {experiments.results_folder(pictures.name, options.scale)}")


def _found(scale: str) -> list[tuple[str, Path]]:
    """Return (data set, results folder) for each data set with results at this scale."""
    roots = {name: experiments.results_folder(name, scale) for name in data.NAMES}
    return [(name, root) for name, root in roots.items() if (root / name).is_dir()]


def _list(options: argparse.Namespace) -> None:
    rows = []
    for dataset, root in _found(options.scale) or [("any", Path())]:
        for name in experiments.EXPERIMENTS:
            for (arm, seed), config in experiments.configs(name, None, options.scale).items():
                finished = (root / dataset / name / arm / f"seed-{seed}.json").exists()
                rows.append((dataset, name, arm, config.iterations, seed, finished))
    frame = pd.DataFrame(rows, columns=["data set", "experiment", "arm", "updates", "seed", "finished"])
    keys = ["data set", "experiment", "arm", "updates"]
    done = frame.groupby(keys, sort=False)["finished"].agg(["sum", "size"]).reset_index()
    done["finished"] = [f"{row['sum']} of {row['size']} seeds" for _, row in done.iterrows()]
    print(done[[*keys, "finished"]].to_string(index=False))


def _table(options: argparse.Namespace) -> None:
    found = _found(options.scale)
    for dataset, root in found:
        print(tables.runs_table(root, dataset).to_string(index=False))
    if not found:
        print(f"nothing has finished at scale {options.scale}")


def _main(options: argparse.Namespace) -> None:
    pictures = _find_data()
    stand_in = " (the offline stand-in: its accuracies say nothing about CIFAR-10)" * (pictures.name == "synthetic")
    print(f"Data set: {pictures.name}{stand_in}, {len(pictures.train):,} + {len(pictures.test):,} pictures", flush=True)
    for name in MAIN:
        experiments.run(name, scale=options.scale, data=pictures, n_jobs=options.n_jobs)
    root = experiments.results_folder(pictures.name, options.scale)
    runs = paths.home() / "runs" / f"{pictures.name}-{options.scale}"
    notebooks = _execute_notebooks(root.parent, runs / "notebooks", options.scale)
    print(f"\n{tables.runs_table(root, pictures.name).to_string(index=False)}\n")
    for path in [*sorted((root.parent / "images").glob("*.png")), *notebooks]:
        print(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path)  # no way from C: to D:


def _find_data() -> data.Cifar10:
    """Load CIFAR-10; where there is none, try once to download it, else take the stand-in."""
    if os.environ.get("CLR_DATA"):
        return data.load_cifar10()
    try:
        return data.load_cifar10()
    except data.NothingThereError as missing:
        print(f"{missing}\nTrying to download it; Ctrl-C goes on with the offline stand-in.", flush=True)
    try:
        return data.load_cifar10(data.download_cifar10())
    except (OSError, ImportError, RuntimeError, KeyboardInterrupt) as error:
        print(f"Not downloaded: {error or 'interrupted'}", flush=True)
        os.environ["CLR_DATA"] = "synthetic"
        return data.load_cifar10()


def _execute_notebooks(home: Path, output: Path, scale: str = "full") -> list[Path]:
    """Execute the notebooks with `home` as theirs, so that they read its results/ and write its images/.

    Data they find where they would have found it from here.
    """
    own = Path(__file__).parents[1] / "notebooks"  # CLR_HOME may be elsewhere, a cluster's scratch say
    sources = sorted((paths.home() / "notebooks").glob("*.ipynb")) or sorted(own.glob("*.ipynb"))
    if not sources:
        print(f"No notebooks to execute: there are none in {paths.home() / 'notebooks'} or {own}.")
    output.mkdir(parents=True, exist_ok=True)
    nbconvert = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute"]
    pictures = os.environ.get("CLR_DATA") or str(paths.home() / "data")
    pictures = pictures if pictures == "synthetic" else os.path.abspath(pictures)  # a kernel starts in another folder
    environment = os.environ | {"CLR_HOME": str(home), "CLR_DATA": pictures, "CLR_SCALE": scale, "CLR_STATIC": "1"}
    environment["CLR_IMAGES"] = str(home / "images")
    environment.setdefault("OMP_NUM_THREADS", str(min(torch.get_num_threads(), joblib.cpu_count())))  # heeds quotas
    with tempfile.TemporaryDirectory() as ipython:  # an SQLite history in a home on NFS may hang
        environment |= {"IPYTHONDIR": ipython, "PYTHONUTF8": "1"}
        for source in sources:
            print(f"Executing {source.name}", flush=True)
            command = [*nbconvert, "--output-dir", str(output), str(source)]
            executed = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8")
            if executed.returncode:
                raise RuntimeError(f"{source.name} failed:\n{executed.stderr}")
    return [output / source.name for source in sources]


if __name__ == "__main__":
    sys.exit(main())
