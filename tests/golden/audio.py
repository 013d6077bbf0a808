"""The original's numbers for sound: features, HuBERT, sync network, and what is measured on landmarks.

See docs/spec/audio2motion.md#12.
"""

import numpy as np
import torch
from torch import Tensor, nn

from modules.audio import amplitude
from modules.audio.features import extract, mel_basis, mel_spectrogram, pad_frames, read_audio
from modules.audio.hubert import CHUNK, HubertFeatures
from modules.audio.pitch import coarse_pitch, pitch_at_hop, track_pitch
from modules.audio.syncnet import SyncNet, SyncNetConfig, windows
from modules.losses import speech as losses
from modules.media.rates import HOP
from modules.official.names import load_official
from tests.conftest import media_folder
from tests.golden.file import Golden, checks
from tests.golden.reference import contrastive, polygon_area
from tests.golden.watch import watched

EXACT, NETWORKS = 1e-5, 1e-4
LABELS = torch.tensor([1, 0, 1, 0, 0, 1])
NOT_COMPARED = {
    "syncnet": {r"trainmode\.grad_norm\..*conv_block\.0\.bias": "before a batch norm: rounding noise"},
    "hubert_tiny": {r"stereo\.equals_first_channel": "states what the original hears of a stereo file; ours mixes"},
}


def noise(g: Golden, name: str, shape: tuple[int, ...], std: float = 1.0) -> Tensor:
    """The input called `name`, in the spelling of the audio files."""
    return g.input(name, shape, std=std, prefix="input.")


# ------------------------------------------------------------------------------------------ measured on landmarks


@checks("a2m_losses")
def losses_of_the_motion_model(g: Golden) -> None:
    mask = g["in.mask"]
    shape = tuple(mask.shape)
    truth, pred = (noise(g, f"a2m.loss_exp_{w}", (*shape, 64), 0.5) * mask[..., None] for w in ("gt", "pred"))
    marks, marks_pred = (noise(g, f"a2m.loss_lm_{w}", (*shape, 1404), 0.5) for w in ("gt", "pred"))
    pred.requires_grad_()
    g.check(losses.mean_square(pred, truth, mask), "out.mse_exp", EXACT)
    g.check(losses.landmark_square(marks_pred, marks, mask), "out.mse_idexp_lm3d", EXACT)
    g.check(losses.magnitude(pred, mask), "out.l2_reg_exp", EXACT)
    smooth = losses.laplacian_zero_ends(pred, mask)
    smooth.backward()
    g.check(smooth, "out.lap_exp", EXACT)
    g.check(pred.grad, "out.lap_exp_grad", EXACT)
    g.check(losses.motion_weights(468), "out.lm_weight_from_grad", EXACT)
    weights = torch.tensor([losses.kl_weight(int(step), 0.02) for step in g.npz["in.kl_steps"]])
    g.check(weights, "out.kl_weight", EXACT)


@checks("a2m_losses")
def amplitudes_blinks_and_polygons(g: Golden) -> None:
    for points in g.names(r"in\.lm(\d+)"):
        shown = g[f"in.lm{points}"]
        landmarks = torch.zeros(len(shown), int(points), 3)
        landmarks[:, g.npz[f"in.lm{points}_index"]] = shown
        g.check(amplitude.mouth_amplitude(landmarks), f"lm{points}.out.mouth_amp", EXACT)
        g.check(amplitude.eye_amplitude(landmarks), f"lm{points}.out.eye_amp", EXACT)
        g.equal(amplitude.blink_units(landmarks), f"lm{points}.out.blink")
    g.equal(torch.stack([amplitude.run_centres(run) for run in g["in.erosion"]]), "out.erosion")
    shape = (*g.shape("out.polygon_area"), 6)
    polygon = torch.stack([noise(g, f"a2m.polygon_{axis}", shape, 0.1) for axis in "xy"], dim=-1)
    g.check(polygon_area(polygon), "out.polygon_area", EXACT)


# -------------------------------------------------------------------------------------------------- sync network


def sync_net(g: Golden) -> SyncNet:
    return load_official(SyncNet(SyncNetConfig.full()), g.weights(), "syncnet")


def sync_inputs(g: Golden) -> tuple[Tensor, Tensor]:
    batch = len(LABELS)
    return noise(g, "sync.hubert", (batch, 10, 1024), 0.5), noise(g, "sync.landmarks", (batch, 5, 1404), 0.6)


@checks("syncnet")
def embeddings_and_losses(g: Golden) -> None:
    sync, (sound, landmarks) = sync_net(g), sync_inputs(g)
    layers = {f"audio{i}": layer for i, layer in enumerate(sync.hubert_encoder)}
    layers |= {f"mouth{i}": layer for i, layer in enumerate(sync.mouth_encoder)}
    with torch.no_grad(), watched(layers) as seen:
        cosine = sync(sound, landmarks)
        of_sound, of_mouth = sync.embed_audio(sound), sync.embed_mouth(landmarks)
    for name, value in seen.items():
        g.check(value, f"eval.mid.{name}", NETWORKS)
    confidence = of_sound @ of_mouth.T
    found = {
        "audio_embedding": of_sound,
        "mouth_embedding": of_mouth,
        "cosine": cosine,
        "conf": confidence.diagonal(),
        "conf_matrix": confidence,
        "clip_loss": contrastive(of_sound, of_mouth),
        "loss_positive": sync.loss(cosine, torch.ones_like(cosine)),
        "loss_negative": sync.loss(cosine, torch.zeros_like(cosine)),
        "loss_labels_mean": sync.loss(cosine, LABELS).mean(),
    }
    for key, value in found.items():
        g.check(value, f"eval.out.{key}", NETWORKS)


@checks("syncnet")
def gradients_of_the_sync_network(g: Golden) -> None:
    sync, (sound, landmarks) = sync_net(g).train(), sync_inputs(g)
    cosine = sync(sound, landmarks.requires_grad_())
    loss = sync.loss(cosine, LABELS).mean()
    loss.backward()
    g.check(cosine, "trainmode.out.cosine", NETWORKS)
    g.check(loss, "trainmode.out.loss", NETWORKS)
    g.check(landmarks.grad, "trainmode.grad.landmarks", NETWORKS)
    for name, parameter in sync.named_parameters():
        if not name.endswith("conv_block.0.bias"):
            g.check(parameter.grad.norm(), f"trainmode.grad_norm.{name}", NETWORKS)


@checks("syncnet")
def the_sync_loss_of_a_sequence(g: Golden) -> None:
    sync, starts, mask = sync_net(g), g["in.seq_starts"], g["in.seq_mask"]
    batch, frames = mask.shape
    sound = noise(g, "sync.seq_hubert", (batch, 2 * frames, 1024), 0.5)
    landmarks = noise(g, "sync.seq_landmarks", (batch, frames, 1404), 0.6)
    pairs = windows(sound, 2 * starts, 10), windows(landmarks, starts, 5)
    valid = windows(mask[..., None], starts, 5).amin(dim=(1, 2))
    g.check(valid, "seq.out.window_mask", EXACT)
    labels = torch.ones(len(valid))
    with torch.no_grad():
        cosine = sync(*pairs)
        drifting = sync.train().loss(sync(*pairs), labels)
    g.check(cosine, "seq.out.cosine", NETWORKS)
    g.check(losses.mean_where(sync.loss(cosine, labels), valid), "seq.out.loss", NETWORKS)
    g.check(losses.mean_where(drifting, valid), "seq_trainmode.out.loss", NETWORKS)


# ------------------------------------------------------------------------------------------------- pitch and mel


def formula_wave(samples: int, parameters: np.ndarray) -> np.ndarray:
    p0, p1, g, v, d = parameters
    t = np.arange(samples) / 16000
    phase = 2 * np.pi * (p0 * t + p1 * t**2 / 4)
    voice = sum(np.sin(h * phase) / h for h in range(1, 6))
    gate = np.sin(np.pi * t / g) > 0
    whistle = np.sin(2 * np.pi * (1000 * t + 1000 * d * np.sin(2 * np.pi * v * t)))
    return (0.2 * gate * voice + 0.02 * whistle).astype(np.float32)


class CountingNetwork(nn.Module):
    """A HuBERT of the right frame count and zero features."""

    class config:  # noqa: N801
        hidden_size = 4

    def forward(self, x: Tensor) -> object:
        frames = (x.shape[1] - 80) // HOP
        return type("Output", (), {"last_hidden_state": x.new_zeros(1, frames, 4)})


def check_sound(g: Golden, name: str, wave: np.ndarray) -> None:
    """Pitch and mel of a wave [N] at 16 kHz."""
    length = HOP * (len(wave) // HOP + 1)
    g.check(length, f"{name}.mid.padded_length", 0)
    track = track_pitch(np.pad(wave.astype(np.float64), (0, length - len(wave))))
    g.check(track.f0, f"{name}.mid.f0_praat", NETWORKS)
    assert np.array_equal(track.f0 > 0, g.npz[f"{name}.mid.f0_praat"] > 0)
    g.check(np.array([track.first, track.step]), f"{name}.mid.t_praat", 1e-6)
    mel = mel_spectrogram(torch.from_numpy(wave))
    g.check(mel, f"{name}.out.mel", NETWORKS)
    f0 = pitch_at_hop(wave, len(mel))
    g.check(f0, f"{name}.out.f0", NETWORKS)
    g.equal(coarse_pitch(torch.from_numpy(f0)), f"{name}.out.f0_coarse")
    found = extract(torch.from_numpy(wave), "hubert", HubertFeatures(CountingNetwork()), whole_end=False)
    g.check(found.f0, f"{name}.out.f0_for_model", NETWORKS)
    g.equal(coarse_pitch(found.f0[::2]), f"{name}.out.coarse_for_model")


@checks("audio_features")
def pitch_and_mel_of_formulas(g: Golden) -> None:
    for samples in g.names(r"formula(\d+)\.out\.f0"):
        check_sound(g, f"formula{samples}", formula_wave(int(samples), g.npz["in.formula"]))


@checks("audio_features")
def pitch_and_mel_of_speech(g: Golden) -> None:
    start, end = g.npz["in.speech_range"]
    wave = read_audio(media_folder() / "speech" / "en_male_16k_stereo.wav")
    check_sound(g, "speech", wave.numpy()[start:end])


@checks("audio_features")
def coarse_pitch_and_the_mel_basis(g: Golden) -> None:
    coarse = coarse_pitch(g["in.f0"])
    g.equal(coarse, "out.coarse_tensor")
    # The array version rounds halves to even; elsewhere the two are the same.
    same = g.npz["out.coarse_array"] == g.npz["out.coarse_tensor"]
    assert np.array_equal(coarse.numpy()[same], g.npz["out.coarse_array"][same])
    g.check(mel_basis(), "mid.mel_basis", NETWORKS)
    g.check(mel_basis().sum(1), "mid.mel_basis_sum", NETWORKS)


@checks("audio_features")
def pitch_and_mel_of_whole_files(g: Golden) -> None:
    for name in g.names(r"file\.(\w+)\.f0"):
        wave = read_audio(media_folder() / "speech" / f"{name}.wav")
        expected, mel = g.npz[f"file.{name}.f0"], mel_spectrogram(wave)
        assert abs(len(mel) - int(g.npz[f"file.{name}.mel_frames"])) <= 1
        g.check(mel, f"file.{name}.mel", NETWORKS)
        length = min(len(mel), len(expected))
        f0, expected = pitch_at_hop(wave.numpy(), len(mel))[:length], expected[:length]
        assert ((f0 > 0) == (expected > 0)).mean() >= 0.99
        both = (f0 > 0) & (expected > 0)
        assert (np.abs(f0[both] / expected[both] - 1) < 0.01).mean() >= 0.99


# --------------------------------------------------------------------------------------------------------- HuBERT


def tiny_hubert(g: Golden) -> HubertFeatures:
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        feat_proj_layer_norm=True,
    )
    network = HubertModel(config)
    network.load_state_dict(g.weights())
    return HubertFeatures(network)


def hubert_wave(g: Golden, samples: int) -> Tensor:
    t = np.arange(samples) / 16000
    wave = noise(g, "hubert.wav", (samples,), 0.1).double().numpy()
    return torch.from_numpy(wave * (1 + 0.8 * np.sin(2 * np.pi * t / 1.7)) + 0.05)


@checks("hubert_tiny")
def frames_and_chunks(g: Golden) -> None:
    hubert = g.once(tiny_hubert)
    calls: list[list[int]] = []
    hubert.network.register_forward_hook(
        lambda _, inputs, out: calls.append([inputs[0].shape[1], out.last_hidden_state.shape[1]])
    )
    for name in g.names(r"n(\d+)\.frames"):
        key = f"n{name}"
        frames = hubert(hubert_wave(g, int(name)))
        g.equal(len(frames), f"{key}.frames")
        g.equal(len(pad_frames(frames)), f"{key}.padded_frames")
        g.equal(calls, f"{key}.mid.chunks")
        calls.clear()
        g.check(frames, f"{key}.out", NETWORKS)
        g.check(frames[-2:], f"{key}.out.last", NETWORKS)
        if f"{key}.out.around_seams" in g.npz:
            seams = range(CHUNK // HOP, len(frames) + 4, CHUNK // HOP)
            near = torch.tensor([i for seam in seams for i in range(seam - 4, seam + 4) if i < len(frames)])
            g.check(frames[near], f"{key}.out.around_seams", NETWORKS)


@checks("hubert_tiny")
def inside_the_network(g: Golden) -> None:
    network = g.once(tiny_hubert).network
    layers = {f"hidden{i + 1}": layer for i, layer in enumerate(network.encoder.layers)}
    outputs = {
        "conv_features": network.feature_extractor,
        "projected": network.feature_projection,
        "pos_conv": network.encoder.pos_conv_embed,
        **layers,
    }
    for samples in g.names(r"n(\d+)\.mid\.projected"):
        with watched(outputs, {"normalised": network, "hidden0": network.encoder.layers[0]}) as seen:
            g.once(tiny_hubert)(hubert_wave(g, int(samples)))
        for name, value in seen.items():
            g.check(value[0] if isinstance(value, tuple) else value, f"n{samples}.mid.{name}", NETWORKS)
