import signal
import threading

import pytest

from modules.system.interrupts import Interrupts


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own answer to Ctrl-C, whatever the tests' parent has set."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


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


def test_the_former_handler_is_back_after_the_block():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_what_the_caller_decided_about_ctrl_c_stays(handler):
    signal.signal(signal.SIGINT, handler)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is handler


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
