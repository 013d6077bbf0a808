import torch

from modules.layers.precision import parameter_dtype


def test_a_module_names_the_type_of_its_parameters() -> None:
    layer = torch.nn.Linear(2, 2)
    assert parameter_dtype(layer) == torch.float32 and parameter_dtype(layer.bfloat16()) == torch.bfloat16
