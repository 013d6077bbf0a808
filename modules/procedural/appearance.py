"""How procedural people look and are drawn: the names that the rest of the code uses."""

from modules.procedural.person import FIRST_HELD_OUT_SEED, Person, sample_people, sample_person
from modules.procedural.render import Rendering, render

__all__ = ["FIRST_HELD_OUT_SEED", "Person", "Rendering", "render", "sample_people", "sample_person"]
