"""Run one function over many items on a Ray cluster, in the manner of `processes.run_all`.

The cluster runs already (`ray start`); RAY_ADDRESS says where, if not on this machine. The files are what all nodes
share: each sees this repository and every path that the items name under the same names, on a network disk. Nothing
is kept by Ray: what was written is there, so that a run may go on anywhere. A task whose process or node dies is done
again elsewhere; nodes may join and leave at any time.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from modules.system.errors import UserError
from modules.system.packages import optional_package
from modules.system.processes import one_thread

CLUSTER_REQUIREMENTS = "requirements-ray.txt"
RETRIES = 5  # of a task whose process or node died
TASKS_A_PROCESSOR = 2  # that run or wait, so that no processor waits for this process
LOOK_AGAIN = 5.0  # seconds after which new processors get tasks though none has ended
KNOCK = 10.0  # seconds in which the head of a cluster must answer
GRACE = 30.0  # seconds that stopped tasks have to clean up
REPOSITORY = Path(__file__).parents[2]
OUR_VARIABLES = "REAL3D_"  # how the names of the settings of this project in the environment begin

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_on_cluster(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results of `function` for all items, in the order in which they are ready.

    Args:
        function: a function of a module, or a `partial` of one: it is sent to the nodes. It may be called again for an
            item whose first call was cut off.
        items: the arguments, one for each call, which takes one processor.
        workers: not used: the cluster has its own number.
    Raises:
        UserError: Ray is not installed, there is no cluster, or an item's process was killed again and again. What
            `function` raises is raised here; then all other calls are stopped, and clean up.
    """
    if not items:
        return
    ray = optional_package("ray", "--engine ray", "leave that option out", CLUSTER_REQUIREMENTS)
    with _connection(ray):
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
        waiting, running = iter(items), set()
        try:
            while True:
                room = max(TASKS_A_PROCESSOR * _processors(ray) - len(running), 0)
                running |= {task.remote(function, os.getcwd(), item) for item in islice(waiting, room)}
                if not running:
                    return
                done, rest = ray.wait(list(running), timeout=LOOK_AGAIN)
                running = set(rest)
                for reference in done:
                    yield _result(ray, reference)
        finally:
            _stop(ray, running)


@contextmanager
def _connection(ray: ModuleType) -> Iterator[None]:
    """This process as a part of the running cluster; as it was, if it is one already."""
    if ray.is_initialized():
        yield
        return
    variables = {name: value for name, value in os.environ.items() if name.startswith(OUR_VARIABLES)}
    variables |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        _knock(address)
        with _kept_handlers():
            ray.init(address=address, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"there is no Ray cluster at {address}; start one with: ray start --head, name another by RAY_ADDRESS, or "
            "leave out --engine ray"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether somebody listens at HOST:PORT, which Ray would ask for many minutes; an OSError if not."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=KNOCK).close()


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Ray lets SIGTERM end a process with the code 15; here it stops commands as everywhere else."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _processors(ray: ModuleType) -> int:
    """Of the whole cluster as it is now; 1 while it has none, for a task that waits for the next node."""
    return max(int(ray.cluster_resources().get("CPU", 0)), 1)


def _result(ray: ModuleType, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise UserError(
            f"a worker was killed {RETRIES + 1} times over one item, perhaps for lack of memory "
            f"({type(error).__name__}); run again to resume, with fewer processors a node (ray start --num-cpus)"
        ) from error


def _stop(ray: ModuleType, running: set[Any]) -> None:
    """Interrupt the calls that run, and wait until they have cleaned up."""
    for reference in running:
        ray.cancel(reference)
    if running:
        ray.wait(list(running), num_returns=len(running), timeout=GRACE)


def _call(function: Callable[[Item], Result], folder: str, item: Item) -> Result:
    """The call in a process of a node, in the folder from which the command was started."""
    os.chdir(folder)
    one_thread()
    return function(item)
