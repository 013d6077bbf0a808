import inspect

from modules.procedural.teacher import ProceduralTeacher
from modules.teacher import Teacher


def test_the_procedural_world_offers_what_a_teacher_must():
    for name in ("sample", "views"):
        wanted, offered = (inspect.signature(getattr(kind, name)) for kind in (Teacher, ProceduralTeacher))
        assert list(wanted.parameters) == list(offered.parameters), name
