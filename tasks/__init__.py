"""Training: the engine, the data, the stages."""

import modules  # noqa: F401 (before PyTorch: how its threads wait)
