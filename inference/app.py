"""A page that makes photos speak: starts the server of inference.serve for this computer and opens a browser.

python -m inference.app
python -m inference.app --no-browser --port 9000     # open http://localhost:9000 yourself
"""

import sys
import threading
import webbrowser

from inference.serve import parser, serve
from modules.system.errors import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error, 130 after Ctrl-C, 143 after SIGTERM."""

    def body() -> None:
        options_of = parser("inference.app", __doc__.splitlines()[0])
        options_of.add_argument("--no-browser", action="store_true", help="only say where the page is")
        options = options_of.parse_args(arguments)

        def opened(address: str) -> None:
            print(f"the page is at {address}; Ctrl-C ends it", flush=True)
            if not options.no_browser:  # in a thread, as a browser of the terminal does not come back
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        serve(options, opened)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
