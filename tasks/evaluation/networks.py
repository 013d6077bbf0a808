"""The networks that a protocol's measures need: loaded once, or reported as missing. None of them stops a table."""

from collections.abc import Callable
from functools import cache

import torch

from modules.metrics import networks
from modules.system.errors import UserError
from tasks.evaluation.measures import measures_of
from tasks.evaluation.settings import Protocol


class Networks:
    """Networks by name.

    Attributes:
        loaded: those that are here.
        missing: name -> how to get it, in one line.
    """

    def __init__(self, protocol: Protocol, device: str = "auto") -> None:
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.loaded: dict[str, Callable] = {}
        self.missing: dict[str, str] = {}
        for name in dict.fromkeys(measure.network for measure in measures_of(protocol) if measure.network):
            try:
                network = networks.load(name, chosen)
            except UserError as error:  # a damaged file is a reason to say so, not to lose the other figures
                self.missing[name] = str(error)
                continue
            if isinstance(network, networks.Missing):
                self.missing[name] = network.how_to_get
            else:
                self.loaded[name] = network


@cache
def load_networks(protocol: Protocol, device: str = "auto") -> Networks:
    """`Networks`, loaded once in a process."""
    return Networks(protocol, device)
