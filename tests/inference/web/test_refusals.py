"""What is answered after which error: a status and one line, and nothing of the server's own files."""

import json
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.refusals import Refusal, refusal_of, renamed
from modules.system.errors import UserError


@pytest.mark.parametrize(
    "error, status, words",
    [
        (Refusal(404, "gone"), 404, "gone"),
        (UserError("give --mouth-amplitude, or --face 0"), 422, "give mouth_amplitude, or face 0"),
        (OSError(28, "No space left on device"), 507, "No space left"),
        (MemoryError(), 503, "too little memory"),
        (KeyError("secret"), 500, "its log says what"),
    ],
)
def test_every_error_has_its_status(capsys, error, status, words):
    refusal = refusal_of(error)
    assert refusal.status == status and words in str(refusal) and "secret" not in str(refusal)
    assert ("secret" in capsys.readouterr().err) == isinstance(error, KeyError)


def test_a_full_disk_behind_an_error_is_found():
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise UserError("x cannot be written") from error
    except UserError as error:
        assert refusal_of(error).status == 507


def test_a_response_says_when_to_ask_again_and_what_to_bring():
    response = Refusal(503, "busy", 7).response()
    assert response.headers["retry-after"] == "7" and json.loads(response.body) == {"error": "busy"}
    assert Refusal(401, "who?").response().headers["www-authenticate"] == "Bearer"


def test_files_of_the_server_are_called_what_they_are_to_the_user():
    path = Path("folder") / "1234abcd"
    assert str(renamed(UserError(f"{path} is damaged; is {path.name} whole?"), path, "the photo")) == (
        "the photo is damaged; is the photo whole?"
    )
