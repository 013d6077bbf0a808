from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from modules.audio.augment import AugmentConfig
from modules.audio.features import AudioFeatures
from modules.clips.format import Clip, write_speech
from modules.clips.splits import SplitConfig
from modules.face3d.coefficients import FaceCoefficients
from modules.procedural.person import HELD_OUT_SEED
from modules.system.errors import UserError
from tasks.data.speech_clips import (
    PreparedSpeech,
    ProceduralSpeech,
    SpeechDataConfig,
    collate,
    length_buckets,
    make_sample,
    speech_datasets,
)
from tasks.engine.seeds import item_generator, item_seed
from tests.tasks.tiny_speech import DATA


def write_clip(folder, frames: int, face_model: str = "procedural", sound: bool = True) -> None:
    """The parts of a prepared clip that the audio stages read."""
    folder.mkdir(parents=True)
    zeros = torch.zeros(frames, 3)
    expression = 0.1 * torch.randn(frames, 64, generator=torch.Generator().manual_seed(0))
    coefficients = FaceCoefficients(torch.zeros(1, 80), expression, zeros, zeros)
    np.savez(
        folder / "clip.npz",
        face_model=face_model,
        landmarks=np.zeros((frames, 68, 2), np.float32),
        **{name: getattr(coefficients, name).numpy() for name in vars(coefficients)},
    )
    if sound:
        soundfile.write(folder / "audio.wav", 0.1 * np.random.default_rng(0).standard_normal(frames * 640), 16000)


def test_a_sample_depends_on_its_number_alone(face):
    first, second = ProceduralSpeech(DATA, face, 10), ProceduralSpeech(DATA, face, 10, first=3)
    for name, value in first.sample(5).items():
        assert torch.equal(value, second[2][0][name]), name
    assert not torch.equal(first.sample(5)["audio"], first.sample(6)["audio"])


def test_all_parts_of_a_sample_have_the_same_time(face):
    sample = ProceduralSpeech(DATA, face, 1)[0][0]
    assert sample["audio"].shape == (64, 80) and sample["f0"].shape == (64,) and sample["blink"].shape == (64, 1)
    assert sample["expression"].shape == (32, 64) and sample["mask"].sum() == 32
    assert sample["mouth_amplitude"].shape == (1,) and sample["identity"].shape == (80,)


def test_held_out_speech_is_another(face):
    train, held_out = speech_datasets(DATA, "mel", face)
    assert held_out.first == HELD_OUT_SEED > len(train)
    with pytest.raises(UserError, match="hubert"):
        speech_datasets(DATA, "hubert", face)


def test_a_batch_is_padded_with_masked_zeros(face):
    audio = AudioFeatures(torch.ones(64, 4), torch.ones(64))
    identity, expression = torch.zeros(1, 80), torch.ones(40, 64)
    long = make_sample(audio, identity, expression, face)
    short = make_sample(AudioFeatures(torch.ones(32, 4), torch.ones(32)), identity, expression, face)
    batch = collate([[long], [short]])
    assert batch["audio"].shape == (2, 64, 4) and batch["mask"].sum(dim=1).tolist() == [32, 16]
    assert batch["expression"][1, 16:].abs().max() == batch["audio"][1, 32:].abs().max() == 0


def test_frames_that_the_video_lacks_are_masked(face):
    sample = make_sample(AudioFeatures(torch.ones(64, 4), torch.ones(64)), torch.zeros(1, 80), torch.ones(20, 64), face)
    assert sample["mask"].sum() == 20 and len(sample["mask"]) == 32


def test_buckets_keep_every_clip_once_and_both_limits():
    sizes = [int(x) for x in torch.randint(20, 200, (100,), generator=torch.Generator().manual_seed(0))]
    buckets = length_buckets(sizes, max_clips=7, max_tokens=900)
    assert sorted(i for b in buckets for i in b) == list(range(100))
    for bucket in buckets:
        assert len(bucket) <= 7 and len(bucket) * max(sizes[i] for i in bucket) <= 900
    with pytest.raises(UserError, match="max_tokens is 100"):
        length_buckets([50, 150], 7, 100)


def test_prepared_clips_are_read_and_their_features_stored(face, tmp_path):
    for number, frames in enumerate((40, 56, 8)):
        write_clip(tmp_path / f"clip{number}", frames)
    write_clip(tmp_path / "silent", 40, sound=False)
    (tmp_path / "split.yaml").write_text("train: [clip1, silent]\nvalidation: [clip0, clip2]\n")
    config = SpeechDataConfig(folder=str(tmp_path), split=SplitConfig(file=f"{tmp_path}/split.yaml"), min_frames=25)
    train, held_out = speech_datasets(config, "mel", face)
    assert not (tmp_path / "clip1" / "speech_mel.npz").is_file()  # nothing is computed before it is needed
    assert [len(s["mask"]) for b in range(len(train)) for s in train[b]] == [56]  # clip1; "silent" has no sound
    assert [len(s["mask"]) for s in held_out[0]] == [40]
    stored = PreparedSpeech(config, face, "mel", [tmp_path / "clip1"])
    assert (tmp_path / "clip1" / "speech_mel.npz").is_file()
    assert_close(stored[0][0]["audio"], train[0][0]["audio"])


NOBODY = SplitConfig(validation=0, test=0)


def test_features_that_were_prepared_are_not_made_again(face, tmp_path, monkeypatch):
    write_clip(tmp_path / "clip", 40)
    write_speech(tmp_path / "clip", "hubert", AudioFeatures(torch.ones(80, 1024), torch.zeros(80)))
    monkeypatch.setattr("tasks.data.speech_clips.extract", None)
    train, held_out = speech_datasets(SpeechDataConfig(folder=str(tmp_path), split=NOBODY), "hubert", face)
    assert train[0][0]["audio"].shape == (80, 1024) and held_out is None


def test_the_size_of_the_features_is_that_of_the_clips(face, tmp_path):
    write_clip(tmp_path / "clip", 40)
    write_speech(tmp_path / "clip", "whisper", AudioFeatures(torch.ones(80, 16), torch.zeros(80)))
    config = SpeechDataConfig(folder=str(tmp_path), split=NOBODY)
    assert speech_datasets(config, "whisper", face)[0].audio_size == 16
    assert speech_datasets(config, "mel", face)[0].audio_size == 80
    assert speech_datasets(SpeechDataConfig(folder=""), "mel", face)[0].audio_size == 80


def test_missing_hubert_features_are_explained(face, tmp_path):
    for name in ("a", "b"):
        write_clip(tmp_path / name, 40)
    write_clip(tmp_path / "silent", 40, sound=False)
    with pytest.raises(UserError) as caught:
        speech_datasets(SpeechDataConfig(folder=str(tmp_path), split=NOBODY), "hubert", face)
    assert str(caught.value).startswith("2 clips have no hubert features")
    assert str(caught.value).endswith(f"python -m data_gen.speech {tmp_path} --features hubert")


def test_mel_features_that_cannot_be_stored_are_used_all_the_same(face, tmp_path, monkeypatch):
    def read_only(*arguments):
        raise PermissionError(13, "Permission denied")

    write_clip(tmp_path / "clip", 40)
    monkeypatch.setattr("tasks.data.speech_clips.write_speech", read_only)
    train, _ = speech_datasets(SpeechDataConfig(folder=str(tmp_path), split=NOBODY), "mel", face)
    assert train[0][0]["audio"].shape == (80, 80)


def test_changed_versions_are_trained_on_beside_the_recorded_speech(face, tmp_path):
    pytest.importorskip("librosa")
    pytest.importorskip("pyworld")
    for name in ("train/a", "held_out/b"):
        write_clip(tmp_path / name, 50)
    folders = {"folder": str(tmp_path / "train"), "validation_folder": str(tmp_path / "held_out")}
    config = SpeechDataConfig(**folders, max_clips=1)
    augmented = replace(config, augment=AugmentConfig(variants=2))
    train, held_out = speech_datasets(augmented, "mel", face)
    plain, _ = speech_datasets(config, "mel", face)
    assert len(train) == 3 * len(plain) == 3 and len(held_out) == 1  # nobody is validated on changed speech
    samples = [train[i][0] for i in range(3)]
    assert torch.equal(samples[0]["audio"], plain[0][0]["audio"])
    for sample in samples[1:]:
        assert not torch.allclose(sample["audio"][:64], samples[0]["audio"][:64], atol=0.1)
        assert sample["expression"].shape == (len(sample["audio"]) // 2, 64) and sample["mask"].sum() >= 40
        assert len(sample["audio"]) <= len(samples[0]["audio"])  # of a batch's limit
    assert torch.equal(train[2][0]["audio"], train[2][0]["audio"])
    assert not torch.allclose(samples[1]["audio"][:64], samples[2]["audio"][:64], atol=0.1)
    stored = AudioFeatures(torch.zeros(96, 1024), torch.zeros(96))
    write_speech(tmp_path / "train" / "a", "hubert", stored)
    with pytest.raises(UserError, match="data.augment changes sound, but hubert features are stored ones"):
        speech_datasets(augmented, "hubert", face)


def test_procedural_speech_is_changed_with_its_motion(face):
    pytest.importorskip("librosa")
    pytest.importorskip("pyworld")
    config = replace(DATA, augment=AugmentConfig(variants=1, semitones=0, formants=0, tempo=0.2))
    plain, changed = ProceduralSpeech(DATA, face, 4), ProceduralSpeech(config, face, 4)
    for name, value in plain.sample(2).items():
        assert torch.equal(value, changed.sample(2)[name]), name
    before, after = plain.sample(3), changed.sample(3)
    assert not torch.equal(before["expression"][:20], after["expression"][:20])
    change = config.augment.change(1, item_generator(item_seed(config.seed, 3), 1))
    frames = int(after["mask"].sum())
    expected = change.of_motion(before["expression"][: int(before["mask"].sum())])
    assert abs(frames - len(expected)) <= 4
    shared = min(frames, len(expected)) - 4
    assert_close(after["expression"][:shared], expected[:shared], atol=1e-4, rtol=0)


def test_nobody_is_trained_on_and_held_out(face, tmp_path):
    for name in ("one_000000", "one_000050", "two_000000", "three_000000"):
        write_clip(tmp_path / "clips" / name, 40)
    write_clip(tmp_path / "held_out" / "two_000100", 40)
    write_clip(tmp_path / "clips" / "silent_000000", 40)
    soundfile.write(tmp_path / "clips" / "silent_000000" / "audio.wav", np.zeros(16000), 16000)
    for side in speech_datasets(SpeechDataConfig(folder=f"{tmp_path}/clips"), "mel", face):
        assert side.clips and "silent_000000" not in {clip.name for clip in side.clips}  # neither trains nor validates
    with pytest.raises(UserError, match="^two is in"):
        speech_datasets(
            SpeechDataConfig(folder=f"{tmp_path}/clips", validation_folder=f"{tmp_path}/held_out"), "mel", face
        )
    write_clip(tmp_path / "others" / "four_000000", 40)
    config = SpeechDataConfig(folder=f"{tmp_path}/clips", validation_folder=f"{tmp_path}/others")
    train, held_out = speech_datasets(config, "mel", face)
    assert len(train.clips) == 4 and [clip.name for clip in held_out.clips] == ["four_000000"]


def test_pitch_of_another_tracker_is_refused_where_it_is_read(face, tmp_path):
    write_clip(tmp_path / "clip", 40)
    write_speech(tmp_path / "clip", "hubert", AudioFeatures(torch.ones(80, 1024), torch.zeros(80), "world"))
    config = SpeechDataConfig(folder=str(tmp_path), split=NOBODY)
    for pitch in ("world", None):  # of the motion model; the sync network reads none
        assert len(speech_datasets(config, "hubert", face, pitch)[0]) == 1
    with pytest.raises(UserError) as caught:
        speech_datasets(config, "hubert", face, "praat")
    assert str(caught.value).startswith(f"{tmp_path}/clip has the pitch of world, not of praat; set pitch=world, or")
    assert str(caught.value).endswith(f"python -m data_gen.speech {tmp_path} --features hubert --pitch praat")


def test_features_that_are_computed_have_the_pitch_that_is_read(face, tmp_path):
    pytest.importorskip("pyworld")
    write_clip(tmp_path / "clip", 40)
    train, _ = speech_datasets(SpeechDataConfig(folder=str(tmp_path), split=NOBODY), "mel", face, "world")
    assert train[0] and Clip(tmp_path / "clip").stored_speech("mel") == (80, "world")


def test_clips_of_another_face_model_are_refused(face, tmp_path):
    write_clip(tmp_path / "clip0", 40, face_model="bfm")
    with pytest.raises(UserError, match="set face_model=bfm"):
        speech_datasets(SpeechDataConfig(folder=str(tmp_path), split=NOBODY), "mel", face)


def test_an_empty_folder_is_refused(face, tmp_path):
    with pytest.raises(UserError, match="no prepared clips"):
        speech_datasets(replace(DATA, folder=str(tmp_path)), "mel", face)
