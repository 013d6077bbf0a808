from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest

from modules.system.config import changed_keys, from_dict, load_yaml, save_yaml, to_dict
from modules.system.errors import UserError


class Mode(Enum):
    ADD = "add"
    MULTIPLY = "mul"


@dataclass(frozen=True, kw_only=True)
class Renderer:
    samples_coarse: int = 48
    box_size: float = 1.0

    def __post_init__(self) -> None:
        if self.samples_coarse < 1:
            raise ValueError(f"samples_coarse is {self.samples_coarse}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Model:
    renderer: Renderer = field(default_factory=Renderer)
    torso: Renderer | None = None
    widths: tuple[int, ...] = (64, 128)
    pair: tuple[int, float] = (1, 2.0)
    name: str = "full"

    @classmethod
    def full(cls) -> "Model":
        return cls()

    @classmethod
    def demo(cls) -> "Model":
        return cls(renderer=Renderer(samples_coarse=24, box_size=0.5), widths=(8,), name="demo", torso=Renderer())

    @classmethod
    def staged(cls, stage: int = 3) -> "Model":
        if stage > 3:
            raise ValueError(f"stage {stage} is above 3")
        return cls(name=f"stage {stage}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    model: Model = field(default_factory=Model)
    rate: float = 1e-4
    steps: int
    clip: float | None = 1.0
    fusion: Literal["v2", "concat"] = "v2"
    mode: Mode = Mode.ADD
    folder: Path = Path("data")
    loss: dict[str, float] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    shuffle: bool = True


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_inherit_key_by_key_and_the_nearest_wins(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "rate: 1\nmodel: {renderer: {samples_coarse: 5, box_size: 2}}\n")
    write(tmp_path, "more.yaml", "rate: 2\nsteps: 7\n")
    text = "base: [../base.yaml, ../more.yaml]\nmodel: {renderer: {samples_coarse: 6}}\n"
    path = write(tmp_path, "sub/own.yaml", text)
    assert load_yaml(path) == {"rate": 2, "steps": 7, "model": {"renderer": {"samples_coarse": 6, "box_size": 2}}}


def test_overrides_win_and_are_read_as_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "steps: 1\nloss: {l1: 1.0}\n")
    values = load_yaml(path, ["loss.l1=0.5", "loss.lpips=1e-4", "model.widths=[1, 2]", "clip=null", "folder=a=b"])
    assert values["loss"] == {"l1": 0.5, "lpips": 1e-4}
    stage = from_dict(Stage, values)
    assert stage.model.widths == (1, 2) and stage.clip is None and stage.folder == Path("a=b")


def test_a_preset_is_changed_at_single_values_however_deep() -> None:
    stage = from_dict(Stage, {"steps": 1, "model": {"preset": "demo", "renderer": {"samples_coarse": 12}}})
    assert stage.model.renderer == Renderer(samples_coarse=12, box_size=0.5)
    assert stage.model.widths == (8,) and stage.model.torso == Renderer()
    assert from_dict(Model, {"preset": "demo", "torso": None}).torso is None


def test_a_preset_takes_its_arguments_beside_it() -> None:
    assert from_dict(Model, {"preset": "staged", "stage": 2, "widths": [3]}) == Model(name="stage 2", widths=(3,))
    assert from_dict(Model, {"preset": "staged"}).name == "stage 3"
    with pytest.raises(UserError, match="preset: stage 4 is above 3"):
        from_dict(Model, {"preset": "staged", "stage": 4})
    with pytest.raises(UserError, match="unknown key stage"):
        from_dict(Model, {"preset": "demo", "stage": 1})


def test_without_a_preset_single_values_change_the_default_of_the_field() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Outer:
        model: Model = field(default_factory=Model.demo)

    assert from_dict(Outer, {"model": {"name": "mine"}}).model.widths == (8,)


def test_a_resolved_config_makes_the_same_config_again(tmp_path: Path) -> None:
    stage = Stage(steps=3, model=Model.demo(), mode=Mode.MULTIPLY, folder=Path("x/y"), loss={"l1": 0.1}, clip=None)
    save_yaml(tmp_path / "saved.yaml", to_dict(stage))
    assert from_dict(Stage, load_yaml(tmp_path / "saved.yaml")) == stage


@pytest.mark.parametrize(
    "values, message",
    [
        ({"step": 1}, "unknown key step; did you mean steps?"),
        ({"steps": 1, "model": {"rendrer": {}}}, "unknown key model.rendrer; did you mean renderer?"),
        ({"steps": 1, "zzzz": 0}, "unknown key zzzz; the choices are clip, folder"),
        ({}, "the key steps is missing"),
        ({"steps": "many"}, "steps must be a whole number, not 'many'"),
        ({"steps": 1.5}, "steps must be a whole number, not 1.5"),
        ({"steps": True}, "steps must be a whole number, not True"),
        ({"steps": 1, "rate": "fast"}, "rate must be a number, not 'fast'"),
        ({"steps": 1, "rate": None}, "rate must be a number, not None"),
        ({"steps": 1, "shuffle": 1}, "shuffle must be true or false, not 1"),
        ({"steps": 1, "folder": 3}, "folder must be a path, not 3"),
        ({"steps": 1, "clip": "x"}, "clip must be a number, not 'x'"),
        ({"steps": 1, "fusion": "cat"}, "fusion is 'cat'; did you mean concat?"),
        ({"steps": 1, "model": 3}, "model must hold `key: value` lines, not 3"),
        ({"steps": 1, "model": {"widths": 4}}, "model.widths must be tuple"),
        ({"steps": 1, "model": {"widths": [4, "x"]}}, "model.widths.1 must be a whole number"),
        ({"steps": 1, "model": {"pair": [4]}}, "model.pair must be a list of 2 values, not 1"),
        ({"steps": 1, "loss": {"l1": "x"}}, "loss.l1 must be a number"),
        ({"steps": 1, "model": {"preset": "tiny"}}, "model.preset is tiny; the choices are demo, full, staged"),
        ({"steps": 1, "model": {"renderer": {"samples_coarse": 0}}}, "model.renderer: samples_coarse is 0; it must be"),
    ],
)
def test_a_wrong_value_is_reported_with_its_key(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?").replace("[", r"\[")):
        from_dict(Stage, values)


def test_a_wrong_key_names_the_file_it_is_in(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "steps: 1\nmodel:\n  widht: 3\n")
    path = write(tmp_path, "own.yaml", "base: base.yaml\nmodel: {name: mine}\n")
    with pytest.raises(UserError, match=f"^{base}: unknown key model.widht"):
        from_dict(Stage, load_yaml(path))
    with pytest.raises(UserError, match="^the command line: rate must be a number"):
        from_dict(Stage, load_yaml(write(tmp_path, "good.yaml", "steps: 1\n"), ["rate=x"]))


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\na: 2\n", "line 2: the key a is repeated"),
        ("a: [1\n", "line 2"),
        ("- 1\n", "key: value"),
        ("base: 3\n", "base must be a file or a list"),
        ("base: gone.yaml\n", r"gone.yaml \(base of own.yaml\): No such file"),
        ("base: own.yaml\n", "in a circle"),
        ('base: "a\\0b"\n', "base must be a file"),
        ("a: 1\0\n", "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_a_bad_file_is_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_yaml(write(tmp_path, "own.yaml", text))


def test_numbers_in_scientific_notation_are_numbers_and_quoted_ones_are_text(tmp_path: Path) -> None:
    values = load_yaml(write(tmp_path, "a.yaml", "a: 1e-4\nb: '1e-4'\nc: 1e4d\nd: -2E3\n"))
    assert values == {"a": 1e-4, "b": "1e-4", "c": "1e4d", "d": -2000.0}


def test_changes_are_listed_by_dotted_keys() -> None:
    old, new = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5, "d": 3}, "e": None}
    assert changed_keys(old, new) == ["b.c", "e"]


@pytest.mark.parametrize("text", ["2024", "1e5", "1.50", "no", "null", "~", "2024-01-31", "2024-13-45", "0x1F", "007"])
@pytest.mark.parametrize("quote", ["", "'"])
def test_where_a_text_is_wanted_whatever_yaml_takes_it_for_is_one(tmp_path: Path, text: str, quote: str) -> None:
    path = write(tmp_path, "a.yaml", f"steps: 1\nmodel: {{name: {quote}{text}{quote}}}\npaths: [x, {text}]\n")
    stage = from_dict(Stage, load_yaml(path, [f"folder={quote}{text}{quote}"]))
    assert (stage.model.name, stage.folder, stage.paths) == (text, Path(text), ["x", text])
    save_yaml(tmp_path / "saved.yaml", to_dict(stage))
    saved = load_yaml(tmp_path / "saved.yaml")
    assert from_dict(Stage, saved) == stage and not changed_keys(saved, to_dict(stage))


def test_only_where_a_text_is_wanted(tmp_path: Path) -> None:
    values = load_yaml(write(tmp_path, "a.yaml", "steps: 1\n"), ["clip=null", "rate=1e-3", "shuffle=no", "steps=007"])
    stage = from_dict(Stage, values)
    assert (stage.clip, stage.rate, stage.shuffle, stage.steps) == (None, 1e-3, False, 7)


@pytest.mark.parametrize("text", ["*.mp4", "@home", "#1", "a: b: c", "[1080p] talk", "talk [1080p]", "100%"])
def test_a_text_of_the_command_line_needs_no_quotes(tmp_path: Path, text: str) -> None:
    values = load_yaml(write(tmp_path, "a.yaml", "steps: 1\n"), [f"folder={text}"])
    assert from_dict(Stage, values).folder == Path(text)


def test_the_text_of_a_value_is_that_of_the_file_which_wins(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "steps: 1\nmodel: {name: 1e5}\npaths: [1.0, 2.0, 3.0]\n")
    path = write(tmp_path, "own.yaml", "base: base.yaml\nmodel: {name: 100_000}\npaths: [4.00]\n")
    stage = from_dict(Stage, load_yaml(path))
    assert stage.model.name == "100_000" and stage.paths == ["4.00"]
    assert from_dict(Stage, load_yaml(path, ["model.name=word"])).model.name == "word"


def test_aliases_that_repeat_each_other_without_end_take_no_time(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert len(load_yaml(write(tmp_path, "bomb.yaml", "\n".join(lines)))) == 60
