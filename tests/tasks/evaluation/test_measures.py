from modules.metrics.networks import NAMES
from tasks.evaluation.measures import MEASURES, OWN_SYNCNET, measures_of
from tests.conftest import ROOT


def test_every_measure_is_defined_once_here_and_in_the_document() -> None:
    names = [measure.name for measure in MEASURES]
    document = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert len(set(names)) == len(names)
    for measure in MEASURES:
        assert f"| `{measure.name}` |" in document and measure.definition.replace("|", "\\|") in document, measure.name
        assert measure.network in ("", OWN_SYNCNET, *NAMES)


def test_every_protocol_has_measures() -> None:
    assert {"psnr_head", "akd"} <= {measure.name for measure in measures_of("same_identity")}
    assert "psnr" not in {measure.name for measure in measures_of("cross_identity")}
    assert "sync_c" in {measure.name for measure in measures_of("audio_driven")}
