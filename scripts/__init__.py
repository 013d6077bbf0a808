"""Small tools, and what starts everything."""

import modules  # noqa: F401 (before PyTorch: how its threads wait)
