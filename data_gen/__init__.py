"""Preparation of clips."""

import modules  # noqa: F401 (before PyTorch: how its threads wait)
