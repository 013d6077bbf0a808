"""Weights of a fit are checked, and every face model brings its own."""

import pytest

from modules.face3d.fit_config import NAMED_ACTIONS, FitConfig
from modules.procedural.head import procedural_model


def test_negative_weights_are_refused_with_the_number():
    with pytest.raises(ValueError, match="-0.5"):
        FitConfig(identity_prior=-0.5)


def test_a_fit_needs_an_iteration():
    with pytest.raises(ValueError, match="iterations is 0"):
        FitConfig(iterations=0)


def test_models_of_named_actions_keep_them_in_range_and_trust_the_oval_less(face_model):
    assert procedural_model().fit_prior == NAMED_ACTIONS
    basel = face_model.fit_prior
    for ours, theirs in ((NAMED_ACTIONS.photo, basel.photo), (NAMED_ACTIONS.clip, basel.clip)):
        assert ours.range_penalty > 0 == theirs.range_penalty
        assert ours.oval < theirs.oval
