"""The program that test_faults.py kills: `python -m clr ...`, forked for each try so that torch is loaded once.

Each line of its input is: seconds, how many processes, a home, and the command's arguments. The processes run the
command side by side, and get SIGKILL when the seconds are over (0: never). Their exit statuses are the answer.
A checkpoint is written after every update, and stand-in and batches are small.
"""

import os
import signal
import sys
import time

from run_and_interrupt import with_small_batches

from clr import __main__, data, experiments, training


def start(home: str, arguments: list[str]) -> int:
    if pid := os.fork():
        return pid
    os.environ |= {"CLR_HOME": home, "CLR_DATA": "synthetic"}
    os.dup2(2, 1)  # what the command prints is no answer
    os._exit(__main__.main(arguments))


def run(seconds: float, processes: int, home: str, arguments: list[str]) -> list[int]:
    started = [start(home, arguments) for _ in range(processes)]
    if seconds:
        time.sleep(seconds)
        for pid in started:
            os.kill(pid, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]


if __name__ == "__main__":  # not where pytest looks for doctests: other tests would be changed, too
    training.checkpoint.SECONDS = 0.0
    data.synthetic_cifar10.__defaults__ = (300, 100, 0)
    experiments.EXPERIMENTS["range-test"] = with_small_batches("range-test")
    config = experiments.configs("range-test", 1, "tiny")["quick-unit", 0]
    training.train(config, data.synthetic_cifar10())  # loads what torch loads when it is first used
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, processes, home, *arguments = line.split()
        print(*run(float(seconds), int(processes), home, arguments), flush=True)
