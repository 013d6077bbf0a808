"""The command of the server: what it refuses before it loads anything, and the token."""

import socket

import pytest

from inference.serve import TOKEN, address_of, check, main, parser, token_of

pytest.importorskip("uvicorn", reason="pip install -c constraints.txt -r requirements-serve.txt")


def options(*arguments: object):
    return parser("inference.serve", "").parse_args([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--port", 70000], "--port is 70000"),
        (["--threads", 0], "--threads is 0"),
        (["--checkpoint", "gone"], "--checkpoint gone: there is no such folder"),
        (["--renderer", "planes", "--size", 256], "--size is not used here"),
        (["--keep", "gone"], "--keep gone: there is no such folder"),
        (["--sign-key", "gone"], "--sign-cert is missing"),
        (["--host", "999.1.1.1"], "cannot listen at 999.1.1.1"),
    ],
)
def test_what_cannot_be_is_one_line(capsys, arguments, words):
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 2
    assert "choose another with --port" in capsys.readouterr().err


def test_a_missing_package_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("modules.system.packages.is_installed", lambda name: name != "uvicorn")
    assert main([]) == 2
    assert (
        "needs the package uvicorn; pip install -c constraints.txt -r requirements-serve.txt" in capsys.readouterr().err
    )


def test_this_computer_alone_needs_no_token_and_others_do(monkeypatch, capsys):
    monkeypatch.delenv(TOKEN, raising=False)
    assert token_of(options()) is None
    made = {token_of(options("--host", "0.0.0.0")) for _ in range(2)}  # noqa: S104
    assert len(made) == 2 and all(len(token) > 30 for token in made)
    monkeypatch.setenv(TOKEN, "sixteen-letters-")
    assert token_of(options()) == token_of(options("--host", "::")) == "sixteen-letters-"
    for short in ("", "fifteen-letters", "with a line\nbreak"):
        monkeypatch.setenv(TOKEN, short)
        assert main(["--port", "0"]) == 2 and f"{TOKEN} must be at least 16" in capsys.readouterr().err


def test_the_address_is_one_that_a_browser_opens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert address_of(options(), listener, None) == f"http://localhost:{port}/"
        assert address_of(options("--host", "::1"), listener, "x") == f"http://[::1]:{port}/?token=x"


def test_the_embedded_checkpoint_is_drawn_by_the_rig():
    chosen = options()
    check(chosen)
    assert chosen.renderer == "rig"
