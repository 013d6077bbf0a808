import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import DrivingConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from scripts import benchmark
from scripts.benchmark import BALL, WAYS, Benchmark, Variant, build, main, parse, table, variants, with_ball
from tests.conftest import ROOT
from tests.tiny import tiny_portrait_config

PEAK = """
import torch
from scripts.benchmark import peak_memory, reset_peak
device = torch.device("cpu")
torch.ones(64 * 2**20)                                                            # 256 MiB that are gone
reset_peak(device)
start = peak_memory(device)
torch.ones(32 * 2**20)
print((peak_memory(device) - start) / 2**20)
"""
FRAME_PARTS = ["PNCC", "motion adapter", "render", "HTB-SR", "whole frame", "whole frame, process time"]


def tiny_bench(stage: int = 3, batch: int = 2) -> Benchmark:
    config = tiny_portrait_config(stage, driving=DrivingConfig.demo())
    if stage == 3:
        config = replace(config, motion_adapter=replace(config.motion_adapter, pncc_inputs=("source", "driving")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_portrait(config)
    return Benchmark(model, config, batch, torch.device("cpu"))


def test_the_command_compares_precisions_at_demo_size(capsys, tmp_path):
    assert (
        main(
            [
                "--size",
                "demo",
                "--device",
                "cpu",
                "--precision",
                "float32,bf16",
                "--ways",
                "band",
                "--busy",
                "1",
                "--frames",
                "2",
                "--json",
                str(tmp_path / "speed.json"),
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert "model demo, picture 256, batch 1, repetitions 2" in lines[0]
    rows = {row.split("|")[1].strip(): [float(cell) for cell in row.split("|")[2:-1]] for row in lines[4:]}
    assert list(rows)[2:-2] == FRAME_PARTS and {len(row) for row in rows.values()} == {3}
    for name, (first, second, ratio) in rows.items():  # printed to 0.1 ms, 0.01 frames a second, 1 MiB, 0.01
        error = 0.501 if name.startswith("peak") else 0.0501
        least, most = (second - error) / (first + error), (second + error) / max(first - error, 1e-9)
        assert least - 0.00501 <= ratio <= most + 0.00501
    written = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert list(written["variants"]) == ["float32 band", "bf16 band"] and written["batch"] == 1
    for name, column in (("float32 band", 0), ("bf16 band", 1)):
        assert len(written["variants"][name]["seconds"]["render"]) == 2
        speed = written["variants"][name]["frames_per_second"]
        assert speed == pytest.approx(rows["frames a second"][column], abs=0.01)


def test_a_checkpoint_is_measured_with_its_own_parts(tmp_path, capsys):
    config = tiny_portrait_config(stage=2, driving=DrivingConfig.demo())
    model = build_portrait(config)
    save_checkpoint(
        tmp_path / "c" / "portrait",
        {"model": to_dict(config)},
        {name: part for name, part in model.named_children() if part is not None},
    )
    assert main(["--checkpoint", str(tmp_path / "c"), "--device", "cpu", "--frames", "3", "--batch", "2"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"picture 64, batch 2, repetitions 2", printed) and "| super-resolution |" in printed
    assert "HTB-SR" not in printed


def test_every_repetition_measures_every_part_once():
    bench = tiny_bench()
    variant = Variant("float32", torch.float32, bench.pipeline.model)
    for _ in range(3):
        bench.measure(variant, record=True)
    assert list(variant.seconds) == ["image to plane", "source of HTB-SR", *FRAME_PARTS]
    assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in variant.seconds.values())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_is_measured(stage):
    bench = tiny_bench(stage, batch=1)
    variant = Variant("bf16", torch.bfloat16, bench.pipeline.model)
    bench.measure(variant, record=True)
    assert ("motion adapter" in variant.seconds) == (stage > 1) and ("HTB-SR" in variant.seconds) == (stage == 3)


def test_the_warm_up_does_not_count():
    bench = tiny_bench(batch=1)
    variant = Variant("float32", torch.float32, bench.pipeline.model)
    bench.measure(variant, record=False)
    assert variant.seconds == {} and variant.peak is None


def test_compiled_parts_are_used_and_the_plain_model_stays_plain(monkeypatch):
    compiled_parts, calls = [], []

    def compile_counted(self: torch.nn.Module) -> None:
        compiled_parts.append(self)
        self.register_forward_pre_hook(lambda module, _: calls.append(type(module).__name__))

    monkeypatch.setattr(torch.nn.Module, "compile", compile_counted)
    bench = tiny_bench(batch=1)
    plain, compiled = variants(bench.pipeline.model, ["float32"], ["plain"], compiled=True)
    bench.measure(plain, record=True)
    assert calls == []
    bench.measure(compiled, record=True)
    assert plain.model.renderer.config.march == "full"
    assert {"ImageToPlane", "MotionAdapter", "VolumeRenderer", "HTBSR"} == set(calls)
    assert not {*map(id, compiled_parts)} & {*map(id, bench.pipeline.model.modules())}


def test_every_way_gives_nearly_the_same_picture():
    bench = tiny_bench(batch=1)
    pictures = []
    for variant in variants(bench.pipeline.model, ["float32"], list(WAYS), compiled=False):
        with torch.inference_mode():
            pictures.append(variant.model(variant.model.encode(bench.photo), bench.driving()).image)
        assert variant.name == ("float32" if len(pictures) == 1 else f"float32 {WAYS[len(pictures) - 1]}")
        assert variant.model.renderer.config.march == ("band" if len(pictures) == 3 else "full")
    for picture in pictures[1:]:
        assert (picture - pictures[0]).norm() < 0.01 * pictures[0].norm()
    assert not torch.equal(pictures[0], pictures[1])  # rounding differs


def test_where_nothing_compiles_one_line_says_so(monkeypatch, capsys):
    def broken(self, variant, record):
        if variant.compiled:
            raise RuntimeError("no C++ compiler\nsecond line")

    monkeypatch.setattr(Benchmark, "measure", broken)
    monkeypatch.setattr(Real3DPortraitConfig, "demo", lambda: tiny_portrait_config(driving=DrivingConfig.demo()))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    assert main(["--device", "cpu", "--compile"]) == 2
    assert capsys.readouterr().err.strip().endswith("(no C++ compiler); leave out --compile")


def test_the_table_gives_medians_ratios_and_dashes():
    model = build_portrait(tiny_portrait_config())
    slow = Variant("float32", torch.float32, model, seconds={"render": [0.2, 0.4, 9.0], "whole frame": [1.0]})
    fast = Variant("bf16", torch.bfloat16, model, seconds={"render": [0.2], "whole frame": [0.5]})
    rows = [line.split("|")[1:-1] for line in table([slow, fast], batch=2).splitlines()]
    assert [cell.strip() for cell in rows[2]] == ["render", "200.0", "100.0", "0.50"]
    assert [cell.strip() for cell in rows[4]] == ["frames a second", "2.00", "4.00", "2.00"]
    assert [cell.strip() for cell in rows[5]] == ["peak memory, MiB", "-", "-", "-"]


@pytest.mark.skipif(not benchmark.CLEAR.exists(), reason="the peak can be reset on Linux alone")
def test_the_peak_of_memory_is_that_since_the_reset():
    command = [sys.executable, "-c", PEAK]  # a large process may lose idle pages meanwhile
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert 120 < float(found.stdout) < 200


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "int8"],
        ["--precision", "bf16,bf16"],
        ["--ways", "quick"],
        ["--busy", "-1"],
        ["--frames", "0"],
        ["--batch", "0"],
        ["--checkpoint", "nowhere"],
        ["--device", "abacus"],
    ],
)
def test_wrong_options_are_one_line(options, capsys):
    assert main(options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")


def test_without_a_checkpoint_the_density_is_that_of_a_ball():
    model, config = build(parse(["--size", "demo"]))
    renderer = model.renderer
    planes = torch.randn(1, 3, config.renderer.plane_channels, 64, 64)
    (ball,) = with_ball(renderer, (planes,))
    directions = torch.nn.functional.normalize(torch.randn(200, 3), dim=-1)
    half = config.renderer.box_size / 2
    for share, sign in ((0.9, 1), (1.1, -1)):
        density = renderer.density(ball, share * BALL * half * directions[None])
        assert (sign * density > 20).all()
    assert torch.equal(ball[:, :, 1:], planes[:, :, 1:])


def test_the_band_finds_the_ball():
    """Most rays meet nothing, and the picture stays."""
    bench = Benchmark(*build(parse(["--size", "demo"])), 1, torch.device("cpu"))
    pictures = []
    for variant in variants(bench.pipeline.model, ["float32"], ["prepared", "band"], compiled=False):
        with torch.inference_mode():
            rendered = variant.model.render(variant.model.canonical_planes(bench.photo), bench.driving())
        pictures.append(rendered.weights)
    assert 0.1 < pictures[0].mean() < 0.4
    assert (pictures[0] - pictures[1]).abs().mean() < 1e-3
