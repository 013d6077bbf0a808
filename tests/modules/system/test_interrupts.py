import os
import signal
import subprocess
import sys
import threading

import pytest

from modules.system.interrupts import Interrupts, Stopped
from tests.conftest import ROOT

USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}


@pytest.fixture(autouse=True)
def usual_handlers():
    """Python's own answers to the signals, whatever the tests' parent has set."""
    former = {number: signal.signal(number, handler) for number, handler in USUAL.items()}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def swallow() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return
    pytest.fail("Ctrl-C raised nothing")


def test_a_swallowed_interrupt_is_raised_again():
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.check()  # nothing yet
        swallow()
        interrupts.check()
        pytest.fail("check raised nothing")


@pytest.mark.parametrize("number", USUAL)
def test_each_signal_stops_with_its_number_and_the_former_handler_is_back_after_the_block(number):
    with pytest.raises(Stopped) as stop, Interrupts():
        signal.raise_signal(number)
        pytest.fail("nothing was raised")
    assert stop.value.number == number
    assert {known: signal.getsignal(known) for known in USUAL} == USUAL


@pytest.mark.parametrize("number", USUAL)
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_what_the_caller_decided_about_a_signal_stays(number, handler):
    signal.signal(number, handler)
    with Interrupts() as interrupts:
        signal.raise_signal(number)
        interrupts.check()
    assert signal.getsignal(number) is handler


def test_an_inner_block_sees_what_its_own_time_brings_and_the_outer_one_goes_on_after_it():
    with pytest.raises(Stopped), Interrupts():
        with Interrupts() as inner:
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Stopped):
                inner.check()
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the outer block was over")


def test_a_second_signal_does_not_disturb_the_cleaning_up_after_the_first():
    cleaned = []
    with pytest.raises(Stopped) as stop, Interrupts():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("after SIGTERM")
            try:
                raise ValueError
            except ValueError:
                signal.raise_signal(signal.SIGINT)
                cleaned.append("after Ctrl-C, in an error of the cleaning")
    assert stop.value.number == signal.SIGTERM and len(cleaned) == 2


def test_a_second_signal_is_heard_where_the_first_was_swallowed():
    with Interrupts():
        swallow()
        swallow()


COMMAND = """
import signal, sys, time
from modules.system.errors import run_command

def body():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.5)
        print("cleaned", flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
sys.exit(run_command(body))
"""


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_command_cleans_up_and_ends_with_128_plus_the_signal(number, code, times):
    process = subprocess.Popen([sys.executable, "-c", COMMAND], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        os.kill(process.pid, number)
    written, message = process.communicate(timeout=30)
    assert (process.returncode, written, message) == (code, "cleaned\n", "stopped\n")


def test_other_threads_may_use_it():
    faults = []

    def work() -> None:
        try:
            with Interrupts() as interrupts:
                interrupts.check()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not faults
