"""A photo and a motion become a video."""

import modules  # noqa: F401 (before PyTorch: how its threads wait)
