import torch

from modules.layers.precision import full_precision, parameter_dtype


def test_a_module_names_the_type_of_its_parameters() -> None:
    layer = torch.nn.Linear(2, 2)
    assert parameter_dtype(layer) == torch.float32 and parameter_dtype(layer.bfloat16()) == torch.bfloat16


def test_full_precision_is_without_autocast_and_autocast_goes_on_after_it(generator: torch.Generator) -> None:
    a, b = (torch.rand(4, 4, generator=generator) for _ in range(2))

    @full_precision()
    def product() -> torch.Tensor:
        """a b."""
        return a @ b

    exact = a @ b
    assert torch.equal(product(), exact) and product.__doc__ == "a b."
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(product(), exact)
        with full_precision():
            assert torch.equal(a @ b, exact) and torch.equal(product(), exact)
        assert (a @ b).dtype == torch.bfloat16
