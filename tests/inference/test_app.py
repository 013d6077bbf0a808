"""The command of the page: it says where the page is and opens it in a browser."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import requests

pytest.importorskip("uvicorn", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.app import main


@pytest.mark.parametrize("more, opens", [([], True), (["--no-browser"], False)])
def test_the_page_is_opened_where_the_server_listens(checkpoint, tmp_path, more, opens):
    browser = tmp_path / "browser.py"
    browser.write_text(f"import sys, pathlib; pathlib.Path({str(tmp_path / 'seen')!r}).write_text(sys.argv[1])")
    command = [sys.executable, "-m", "inference.app", "--port", "0", "--checkpoint", str(checkpoint), *more]
    environment = {**os.environ, "BROWSER": f"{sys.executable} {browser} %s"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        line = process.stdout.readline()
        assert line.startswith("the page is at http://localhost:") and line.endswith("; Ctrl-C ends it\n")
        address = line.split()[4].rstrip(";")
        page = requests.get(address, timeout=10)
        assert page.status_code == 200 and "A photo that speaks" in page.text
        if opens:
            while not (tmp_path / "seen").exists() or not (tmp_path / "seen").read_text():
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        watchdog.cancel()
    assert (tmp_path / "seen").exists() == opens
    assert not opens or (tmp_path / "seen").read_text() == address


def test_options_that_cannot_be_are_one_line(capsys):
    assert main(["--port", "-1"]) == 2 and capsys.readouterr().err.startswith("error: --port is -1")
