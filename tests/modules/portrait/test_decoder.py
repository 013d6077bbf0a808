import torch

from modules.portrait.decoder import HeadDecoder
from modules.rendering.renderer import RenderOutput
from modules.rendering.superresolution import Superresolution
from tests.modules.portrait.htbsr.conftest import SUPERRESOLUTION


def test_the_plain_decoder_is_the_super_resolution_of_the_head(generator: torch.Generator) -> None:
    """Same tensors, same picture; alpha is what the rays met."""
    plain, decoder = Superresolution(SUPERRESOLUTION), HeadDecoder(SUPERRESOLUTION)
    decoder.load_state_dict(plain.state_dict())
    feature = torch.randn(2, 6, 8, 8, generator=generator)
    weights = torch.zeros(2, 1, 8, 8)
    weights[0] = 1.5
    decoded = decoder.decode(RenderOutput(feature, torch.ones(2, 1, 8, 8), weights), None, None)
    assert torch.equal(decoded.image, plain(feature[:, :3], feature))
    assert decoder.resolution == 32 and torch.equal(
        decoded.alpha, torch.ones(2, 1, 32, 32) * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    )
