"""The command line: `python -m clr --help`.

A mistake of the user is one sentence on stderr and exit status 1. Anything else that goes wrong is a fault of this
program, and shows its traceback.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from clr import data, download, experiments, jpeg_copy, paths, results
from clr.experiments import pages, tables
from clr.training.precision import SlowPrecisionError, check_fast


class CommandError(Exception):
    """What the user can mend: the sentence says how."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        paths.home()  # CLR_HOME may point nowhere
        options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        known = str(interrupt) or "Interrupted. Nothing finished is lost: the same command goes on from here."
        print(f"\n{known}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough: python -m clr list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except (
        CommandError, pages.NotebookError, results.ResultError, SlowPrecisionError, OSError, ImportError
    ) as error:  # fmt: skip
        notes = getattr(error, "__notes__", [])  # the last: what the other runs keep
        print(f"clr: {error}", *notes[-1:], sep="\n", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _user_input() -> Iterator[None]:
    """Take an argument that is refused inside, or data that is damaged, for the user's mistake."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clr", description="Cyclical learning rates: run and report.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function: object, summary: str, scaled: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=function)
        if scaled:
            added.add_argument("--scale", choices=experiments.SCALES, default="full", help="full by default")
        return added

    run = command("run", _run, "train the runs of the named experiments that have not finished", scaled=True)
    _add_run_arguments(run)
    listed = command("list", _list, "what has finished, what has not, and what is damaged", scaled=True)
    listed.add_argument("--queue", action="store_true", help="how far the queue is, with updates left and core hours")
    command("table", _table, "a table of what has finished", scaled=True)
    added = command("data", _data, "download CIFAR-10 (170 MB) into the folder that CLR_DATA names, else data/")
    added.add_argument("--jpeg", action="store_true", help="the JPEG copy instead, with git (25 MB)")
    job = command("main", _main, "the main job: find data, run, execute the notebooks, write one page", scaled=True)
    for added in (run, job):
        added.add_argument("--n-jobs", type=int, help="runs side by side; one per core on the CPU, ten on CUDA")
    return parser


def _add_run_arguments(run: argparse.ArgumentParser) -> None:
    run.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(experiments.EXPERIMENTS)}")
    run.add_argument("--all", action="store_true", help="every experiment")
    run.add_argument("--queue", action="store_true", help="what the queue lacks, in its order, at low priority")
    run.add_argument(
        "--arms", help='names or patterns, separated by commas, such as "adam-*,fixed-70k"; all by default'
    )
    run.add_argument("--rerun", action="store_true", help="retrain finished runs as well")
    run.add_argument("--seeds", type=int, help="seeds per arm (full 5, quick 2, tiny 2)")
    run.add_argument(
        "--precision", choices=("float32", "bfloat16"),
        help="another precision than the experiment's; such runs are kept in runs/<data set>-<scale>-<precision>/",
    )  # fmt: skip
    run.add_argument("--device", help="a torch device; CUDA where there is one, else the CPU")


def _run(options: argparse.Namespace) -> None:
    arms = options.arms.split(",") if options.arms else None
    names = list(experiments.EXPERIMENTS) if options.all else options.names
    with _user_input():  # before anything is trained
        if not names and not options.queue:
            known = ", ".join(experiments.EXPERIMENTS)
            raise ValueError(f"name an experiment, or --all, or --queue; there are {known}")
        if options.queue and (names or arms or options.seeds or options.rerun or options.precision):
            others = "--arms, --seeds, --precision and --rerun"
            raise ValueError(f"--queue must stand without names, {others}: it has its own")
        for name in names:
            experiments.configs(name, options.seeds, options.scale, arms, options.precision)
        pictures = data.load_cifar10()
        devices, _ = experiments.check_machine(options.device, options.n_jobs)
    if options.all and options.precision is None:
        names = [name for name in names if _is_fast(name, devices[0])]
    if options.queue:
        if hasattr(os, "nice"):  # not on Windows
            os.nice(19)  # the runs inherit it
        experiments.run_queue(options.scale, pictures, options.device, options.n_jobs)
    else:
        experiments.run(
            names, options.seeds, options.scale, pictures, options.device, options.n_jobs, options.rerun, arms=arms,
            precision=options.precision,
        )  # fmt: skip
    apart = {experiments.kept_apart(name, options.precision) for name in names} or {None}
    folders = [str(experiments.results_folder(pictures.name, options.scale, precision)) for precision in apart]
    print(f"Results: {', '.join(folders)}")


def _is_fast(name: str, device: str) -> bool:
    """Return whether a device is fast in an experiment's precision; where it is not, say so."""
    try:
        for config in experiments.EXPERIMENTS[name].arms.values():
            check_fast(config.precision, device)
    except SlowPrecisionError as error:
        print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
        return False
    return True


def _data(options: argparse.Namespace) -> None:
    with _user_input():
        print(jpeg_copy.clone_jpeg_cifar10() if options.jpeg else download.download_cifar10())


def _found(scale: str) -> list[tuple[str, Path]]:
    """Return (data set, results folder) for each data set with finished runs at this scale."""
    roots = {name: experiments.results_folder(name, scale) for name in data.NAMES}
    return [(name, root) for name, root in roots.items() if any((root / name).glob("*/*/seed-*.json"))]


def _list(options: argparse.Namespace) -> None:
    found = _found(options.scale) or [("any", Path())]
    if options.queue:
        for dataset, _ in found:
            print(f"{dataset}\n{experiments.queue_state(dataset, options.scale).to_string(index=False)}")
        return
    rows, damaged = [], []
    for dataset, root in found:
        for name in experiments.EXPERIMENTS:
            for (arm, seed), config in experiments.configs(name, None, options.scale).items():
                state, message = _state(root / dataset / name / arm, seed)
                rows.append((dataset, name, arm, config.iterations, state))
                damaged += [message] if message else []
    keys = ["data set", "experiment", "arm", "updates"]
    frame = pd.DataFrame(rows, columns=[*keys, "state"])
    done = frame.groupby(keys, sort=False)["state"].agg(_count_states).rename("finished").reset_index()
    print("\n".join([done.to_string(index=False), *damaged]))


def _state(folder: Path, seed: int) -> tuple[str, str]:
    """Return whether a run is "finished", "missing" or "damaged", and what a damaged one lacks."""
    try:
        return ("missing" if results.load(folder, seed) is None else "finished"), ""
    except results.ResultError as error:
        return "damaged", str(error)


def _count_states(states: pd.Series) -> str:
    finished, damaged = (states == "finished").sum(), (states == "damaged").sum()
    return f"{finished} of {len(states)} seeds" + (f", {damaged} damaged" if damaged else "")


def _table(options: argparse.Namespace) -> None:
    found = _found(options.scale)
    for dataset, root in found:
        print(tables.runs_table(root, dataset).to_string(index=False))
    if not found:
        print(f"nothing has finished at scale {options.scale}")


def _main(options: argparse.Namespace) -> None:
    from clr.experiments import main_job  # it draws, and no other command needs matplotlib

    with _user_input():
        experiments.check_machine(None, options.n_jobs)
        main_job.announce(options.scale)
        images = main_job.find_data()
    main_job.run(options.scale, images, options.n_jobs)


if __name__ == "__main__":
    sys.exit(main())
