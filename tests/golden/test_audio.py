"""The original's numbers for audio: motion model, sync network, features, losses, amplitudes, batches, schedules."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules.audio import amplitude, losses
from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig, SpeechConditions
from modules.audio.features import extract, mel_basis, mel_spectrogram, read_audio
from modules.audio.hubert import HubertFeatures
from modules.audio.pitch import coarse_pitch, pitch_at_hop, track_pitch
from modules.audio.syncnet import SyncNet, SyncNetConfig, windows
from tasks.a2m import exponential_rate
from tasks.audio_clips import length_buckets
from tasks.syncnet import stepped_rate
from tests.golden.compare import check, relative_error

OUT = {"norm": "max"}


def record(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The outputs of `modules` under their names, filled by the next forward pass."""
    seen: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out.detach()))
    return seen


def speech_of(golden, features: Tensor, silent_from: int) -> SpeechConditions:
    npz = golden.npz
    audio = features.clone()
    audio[1, silent_from:] = 0
    blink = torch.from_numpy(npz["in.blink_unit"]).repeat_interleave(2, dim=1)
    eye = torch.from_numpy(npz["in.eye_amp"]) if "in.eye_amp" in npz else None
    return SpeechConditions(audio, torch.from_numpy(npz["in.f0"]), blink, torch.from_numpy(npz["in.mouth_amp"]), eye)


@pytest.fixture(scope="module")
def released(golden):
    model = Audio2Motion(Audio2MotionConfig.full())
    model.load_state_dict(golden("a2m").weights(), strict=False)
    return model.eval()


def test_the_released_model_reconstructs(golden, released):
    g = golden("a2m")
    weights = g.weights()
    assert not {k for k in released.state_dict() if not k.endswith("num_batches_tracked")} ^ set(weights)
    speech = speech_of(g, g.input("a2m.hubert", (2, 128, 1024), std=0.5, prefix="input."), 104)
    mask = torch.from_numpy(g.npz["in.y_mask"])
    motion = g.input("a2m.exp", (2, 64, 64), std=0.5, prefix="input.") * mask[..., None]
    noise = g.input("a2m.noise_q", (2, 16, 16), prefix="input.")
    vae = released.vae
    seen = record({"mel_encoder": released.mel_encoder, "pitch_encoder": released.pitch_encoder,
                   "g_sqz": vae.g_pre_net, "encoder_pre": vae.encoder.pre_net, "encoder_wn": vae.encoder.wn,
                   "decoder_pre": vae.decoder.pre_net, "decoder_wn": vae.decoder.wn,
                   **{f"flow{i}": vae.prior_flow.flows[i] for i in (0, 2, 4, 6)}})
    result = released.reconstruct(speech, motion, mask, noise)
    kl = losses.kl_flow(result.mean, result.log_scale, result.latent, result.prior_latent, result.latent_mask)
    check(result.motion, g.npz, "train.out.pred", 1e-4, **OUT)
    check(kl, g.npz, "train.out.loss_kl", 1e-4)
    assert torch.equal(coarse_pitch(speech.f0[:, ::2]), torch.from_numpy(g.npz["mid.f0_coarse"]))
    check(released.condition(speech).transpose(1, 2), g.npz, "train.mid.cond", 1e-4, **OUT)
    seen |= {"m_q": result.mean, "logs_q": result.log_scale, "z_q": result.latent, "mask_sqz": result.latent_mask,
             "z_p": result.prior_latent}
    for name, value in seen.items():
        value = value.transpose(1, 2) if name in ("m_q", "z_p") else value           # [B, T/4, 16]
        check(value, g.npz, f"train.mid.{name}", 1e-4, **OUT)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_the_released_model_generates(golden, released, temperature):
    g = golden("a2m")
    speech = speech_of(g, g.input("a2m.hubert", (2, 128, 1024), std=0.5, prefix="input."), 104)
    noise = temperature * g.input("a2m.noise_p", (2, 16, 16), prefix="input.")
    seen = record({"decoder_wn": released.vae.decoder.wn})
    pred = released.decode_noise(speech, noise) * torch.from_numpy(g.npz["in.y_mask"])[..., None]
    key = f"infer{temperature}"
    check(pred, g.npz, f"{key}.out.pred", 1e-4, **OUT)
    check(seen["decoder_wn"], g.npz, f"{key}.mid.decoder_wn", 1e-4, **OUT)
    s = released.vae.g_pre_net(released.condition(speech))
    z, mask = noise, torch.ones(2, 1, 16)
    for i in range(7, -1, -1):
        z = released.vae.prior_flow.flows[i].inverse(z, mask, s)
        if i % 2 == 0:
            check(z, g.npz, f"{key}.mid.flow{i}", 1e-4, **OUT)
    check(z, g.npz, f"{key}.mid.z", 1e-4, **OUT)


def test_the_inference_program_and_its_defaults(golden, released):
    g = golden("a2m")
    audio = g.input("a2m.hubert", (2, 128, 1024), std=0.5, prefix="input.")[:1]
    f0 = torch.from_numpy(g.npz["in.f0"])[:1]
    noise = 0.2 * g.input("a2m.noise_p", (2, 16, 16), prefix="input.")[:1]
    program = SpeechConditions(audio, f0, None, torch.full((1, 1), 0.45))
    check(released.decode_noise(program, noise), g.npz, "program.out.pred", 1e-4, **OUT)
    check(released.decode_noise(SpeechConditions(audio, f0), noise), g.npz, "defaults.out.pred", 1e-4, **OUT)


def test_gradients_of_the_released_model(golden):
    g = golden("a2m")
    model = Audio2Motion(Audio2MotionConfig.full())
    model.load_state_dict(g.weights(), strict=False)
    speech = speech_of(g, g.input("a2m.hubert", (2, 128, 1024), std=0.5, prefix="input."), 104)
    mask = torch.from_numpy(g.npz["in.y_mask"])
    motion = g.input("a2m.exp", (2, 64, 64), std=0.5, prefix="input.") * mask[..., None]
    r = model.train().reconstruct(speech, motion, mask, g.input("a2m.noise_q", (2, 16, 16), prefix="input."))
    kl = losses.kl_flow(r.mean, r.log_scale, r.latent, r.prior_latent, r.latent_mask)
    loss = losses.mean_square(r.motion, motion, mask) + 0.02 * kl
    loss.backward()
    check(loss, g.npz, "trainmode.out.loss", 1e-4)
    check(kl, g.npz, "trainmode.out.loss_kl", 1e-4)
    check(r.motion, g.npz, "trainmode.out.pred", 1e-4, **OUT)
    for name, parameter in model.named_parameters():
        assert relative_error(parameter.grad.norm(), g.npz[f"trainmode.grad.{name}"]) < 1e-4, name
    for name in ("running_mean", "running_var"):
        key = next(k for k in g.npz if k.startswith("trainmode") and k.endswith(name))
        assert relative_error(getattr(model.mel_encoder[1], name), g.npz[key]) < 1e-4


BASE = Audio2MotionConfig.full()
VARIANTS = {
    "plain": replace(BASE, pitch=False, condition_size=64, flow_couplings=0, downsample="average"),
    "plainflow": replace(BASE, pitch=False, condition_size=64, audio_size=13, downsample="average"),
    "eye": replace(BASE, eye_amplitude=True, flow_couplings=0, audio_size=80, motion_size=144),
    "noamp": replace(BASE, mouth_amplitude=False, audio_size=80),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_variants_of_the_model(golden, variant):
    g, config = golden("a2m_plain"), VARIANTS[variant]
    model = Audio2Motion(config).eval()
    prefix = variant + "/"
    weights = {k.removeprefix(prefix): v for k, v in g.weights().items() if k.startswith(prefix)}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    size, out = config.audio_size, config.motion_size
    speech = speech_of(g, g.input(f"a2m_plain.audio{size}", (2, 64, size), std=0.5, prefix="input."), 40)
    mask = torch.from_numpy(g.npz["in.y_mask"])
    motion = g.input(f"a2m_plain.motion{out}", (2, 32, out), std=0.5, prefix="input.") * mask[..., None]
    r = model.reconstruct(speech, motion, mask, g.input("a2m_plain.noise_q", (2, 16, 8), prefix="input."))
    check(r.motion, g.npz, f"{variant}.train.out.pred", 1e-4, **OUT)
    check(r.mean.transpose(1, 2), g.npz, f"{variant}.train.mid.m_q", 1e-4, **OUT)
    check(r.prior_latent.transpose(1, 2), g.npz, f"{variant}.train.mid.z_p", 1e-4, **OUT)
    kl = (losses.kl_flow(r.mean, r.log_scale, r.latent, r.prior_latent, r.latent_mask) if config.flow_couplings
          else losses.kl_normal(r.mean, r.log_scale, r.latent_mask))
    check(kl, g.npz, f"{variant}.train.out.loss_kl", 1e-4)
    noise = 0.2 * g.input("a2m_plain.noise_p", (2, 16, 8), prefix="input.")
    pred = model.decode_noise(speech, noise) * mask[..., None]
    check(pred, g.npz, f"{variant}.infer0.2.out.pred", 1e-4, **OUT)


def test_losses_of_the_motion_model(golden):
    g = golden("a2m_losses")
    mask = torch.from_numpy(g.npz["in.mask"])
    truth, pred = (g.input(f"a2m.loss_exp_{w}", (2, 24, 64), std=0.5, prefix="input.") * mask[..., None]
                   for w in ("gt", "pred"))
    marks, marks_pred = (g.input(f"a2m.loss_lm_{w}", (2, 24, 1404), std=0.5, prefix="input.") for w in ("gt", "pred"))
    pred.requires_grad_()
    check(losses.mean_square(pred, truth, mask), g.npz, "out.mse_exp", 1e-5)
    check(losses.landmark_error(marks_pred, marks, mask), g.npz, "out.mse_idexp_lm3d", 1e-5)
    check(losses.magnitude(pred, mask), g.npz, "out.l2_reg_exp", 1e-5)
    smooth = losses.laplacian_zero_ends(pred, mask)
    smooth.backward()
    check(smooth, g.npz, "out.lap_exp", 1e-5)
    check(pred.grad, g.npz, "out.lap_exp_grad", 1e-5, **OUT)
    check(losses.landmark_weights(468), g.npz, "out.lm_weight_from_grad", 1e-5)
    for step, weight in zip(g.npz["in.kl_steps"], g.npz["out.kl_weight"], strict=True):
        assert losses.kl_weight(int(step), 0.02) == pytest.approx(float(weight), rel=1e-5)


@pytest.mark.parametrize("count", [68, 468])
def test_amplitudes_and_blinks(golden, count):
    g = golden("a2m_losses")
    landmarks = torch.zeros(120, count, 3)
    landmarks[:, g.npz[f"in.lm{count}_index"]] = torch.from_numpy(g.npz[f"in.lm{count}"])
    check(amplitude.mouth_amplitude(landmarks), g.npz, f"lm{count}.out.mouth_amp", 1e-5)
    check(amplitude.eye_amplitude(landmarks), g.npz, f"lm{count}.out.eye_amp", 1e-5)
    assert torch.equal(amplitude.blink_units(landmarks), torch.from_numpy(g.npz[f"lm{count}.out.blink"]))


def test_blink_runs_and_polygons(golden):
    g = golden("a2m_losses")
    for run, unit in zip(g.npz["in.erosion"], g.npz["out.erosion"], strict=True):
        assert torch.equal(amplitude.run_centres(torch.from_numpy(run)), torch.from_numpy(unit))
    polygon = torch.stack([g.input(f"a2m.polygon_{axis}", (5, 6), std=0.1, prefix="input.") for axis in "xy"], dim=-1)
    check(amplitude.polygon_area(polygon), g.npz, "out.polygon_area", 1e-5)


@pytest.fixture
def sync(golden):
    model = SyncNet(SyncNetConfig.full())
    missing, unexpected = model.load_state_dict(golden("syncnet").weights(), strict=False)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    return model.eval()


def test_the_sync_network(golden, sync):
    g = golden("syncnet")
    audio = g.input("sync.hubert", (6, 10, 1024), std=0.5, prefix="input.")
    landmarks = g.input("sync.landmarks", (6, 5, 1404), std=0.6, prefix="input.")
    seen = record({f"audio{i}": layer for i, layer in enumerate(sync.hubert_encoder)}
                  | {f"mouth{i}": layer for i, layer in enumerate(sync.mouth_encoder)})
    with torch.no_grad():
        cosine = sync(audio, landmarks)
        of_audio, of_mouth = sync.embed_audio(audio), sync.embed_mouth(landmarks)
    for name, value in seen.items():
        check(value, g.npz, f"eval.mid.{name}", 1e-4, **OUT)
    check(of_audio, g.npz, "eval.out.audio_embedding", 1e-4, **OUT)
    check(of_mouth, g.npz, "eval.out.mouth_embedding", 1e-4, **OUT)
    check(cosine, g.npz, "eval.out.cosine", 1e-4, **OUT)
    check(of_audio @ of_mouth.T, g.npz, "eval.out.conf_matrix", 1e-4, **OUT)
    check(losses.contrastive(of_audio, of_mouth), g.npz, "eval.out.clip_loss", 1e-4)
    labels = torch.tensor([1, 0, 1, 0, 0, 1])
    check(sync.loss(cosine, torch.ones(6)), g.npz, "eval.out.loss_positive", 1e-4, **OUT)
    check(sync.loss(cosine, torch.zeros(6)), g.npz, "eval.out.loss_negative", 1e-4, **OUT)
    check(sync.loss(cosine, labels).mean(), g.npz, "eval.out.loss_labels_mean", 1e-4)


def test_gradients_of_the_sync_network(golden, sync):
    g = golden("syncnet")
    audio = g.input("sync.hubert", (6, 10, 1024), std=0.5, prefix="input.")
    landmarks = g.input("sync.landmarks", (6, 5, 1404), std=0.6, prefix="input.").requires_grad_()
    cosine = sync.train()(audio, landmarks)
    loss = sync.loss(cosine, torch.tensor([1, 0, 1, 0, 0, 1])).mean()
    loss.backward()
    check(cosine, g.npz, "trainmode.out.cosine", 1e-4, **OUT)
    check(loss, g.npz, "trainmode.out.loss", 1e-4)
    key = next(k for k in g.npz if k.startswith("trainmode") and "landmark" in k and not k.endswith(".stats"))
    check(landmarks.grad, g.npz, key.rsplit(".", 1)[0] if key[-1].isdigit() else key, 1e-3, **OUT)
    for name, parameter in sync.named_parameters():
        if not name.endswith("conv_block.0.bias"):                    # before a batch norm: rounding noise
            assert relative_error(parameter.grad.norm(), g.npz[f"trainmode.grad_norm.{name}"]) < 1e-4, name


def test_the_sync_loss_of_a_sequence(golden, sync):
    g = golden("syncnet")
    audio = g.input("sync.seq_hubert", (3, 40, 1024), std=0.5, prefix="input.")
    landmarks = g.input("sync.seq_landmarks", (3, 20, 1404), std=0.6, prefix="input.")
    starts, mask = torch.from_numpy(g.npz["in.seq_starts"]), torch.from_numpy(g.npz["in.seq_mask"])
    pairs = windows(audio, 2 * starts, 10), windows(landmarks, starts, 5)
    valid = windows(mask[..., None], starts, 5).amin(dim=(1, 2))
    check(valid, g.npz, "seq.out.window_mask", 1e-5)
    with torch.no_grad():
        cosine = sync(*pairs)
        check(cosine, g.npz, "seq.out.cosine", 1e-4, **OUT)
        check(losses.mean_where(sync.loss(cosine, torch.ones(24)), valid), g.npz, "seq.out.loss", 1e-4)
        drifting = sync.train().loss(sync(*pairs), torch.ones(24))
    check(losses.mean_where(drifting, valid), g.npz, "seq_trainmode.out.loss", 1e-4)


def formula_wave(samples: int, parameters: np.ndarray) -> np.ndarray:
    p0, p1, g, v, d = parameters
    t = np.arange(samples) / 16000
    phase = 2 * np.pi * (p0 * t + p1 * t ** 2 / 4)
    voice = sum(np.sin(h * phase) / h for h in range(1, 6))
    gate = np.sin(np.pi * t / g) > 0
    whistle = np.sin(2 * np.pi * (1000 * t + 1000 * d * np.sin(2 * np.pi * v * t)))
    return (0.2 * gate * voice + 0.02 * whistle).astype(np.float32)


@pytest.mark.parametrize("name", ["formula48000", "formula16000", "formula20001", "formula16319", "formula8000",
                                  "speech"])
def test_pitch_and_mel(golden, media, name):
    g = golden("audio_features")
    if name == "speech":
        start, end = g.npz["in.speech_range"]
        wave = read_audio(media / "speech" / "en_male_16k_stereo.wav").numpy()[start:end]
    else:
        wave = formula_wave(int(name.removeprefix("formula")), g.npz["in.formula"])
    padded = np.pad(wave.astype(np.float64), (0, int(g.npz[f"{name}.mid.padded_length"]) - len(wave)))
    track = track_pitch(padded)
    expected = g.npz[f"{name}.mid.f0_praat"]
    assert np.array_equal(track.f0 > 0, expected > 0)
    assert relative_error(track.f0, expected, "max") < 1e-4
    assert relative_error(np.array([track.first, track.step]), g.npz[f"{name}.mid.t_praat"]) < 1e-6
    mel = mel_spectrogram(torch.from_numpy(wave))
    check(mel, g.npz, f"{name}.out.mel", 1e-4, **OUT)
    f0 = pitch_at_hop(wave, len(mel))
    assert relative_error(f0, g.npz[f"{name}.out.f0"], "max") < 1e-4
    hubert = HubertFeatures(_CountingNetwork())
    found = extract(torch.from_numpy(wave), "hubert", hubert)
    assert relative_error(found.f0, g.npz[f"{name}.out.f0_for_model"], "max") < 1e-4
    assert np.array_equal(coarse_pitch(found.f0[::2]).numpy(), g.npz[f"{name}.out.coarse_for_model"])


class _CountingNetwork(nn.Module):
    """A HuBERT of the right frame count and zero features."""

    class config:  # noqa: N801
        hidden_size = 4

    def forward(self, x: Tensor):
        frames = (x.shape[1] - 80) // 320
        return type("Output", (), {"last_hidden_state": x.new_zeros(1, frames, 4)})


def test_coarse_pitch_and_the_mel_basis(golden):
    g = golden("audio_features")
    f0 = torch.from_numpy(g.npz["in.f0"])
    assert np.array_equal(coarse_pitch(f0).numpy(), g.npz["out.coarse_tensor"])
    check(mel_basis(), g.npz, "mid.mel_basis", 1e-4, **OUT)
    check(mel_basis().sum(1), g.npz, "mid.mel_basis_sum", 1e-4, **OUT)


@pytest.mark.parametrize("name", ["en_24k_mono", "zh_poem_24k_mono", "en_male_16k_stereo"])
def test_pitch_of_whole_files(golden, media, name):
    g = golden("audio_features")
    wave = read_audio(media / "speech" / f"{name}.wav")
    expected = g.npz[f"file.{name}.f0"]
    mel = mel_spectrogram(wave)
    assert abs(len(mel) - int(g.npz[f"file.{name}.mel_frames"])) <= 1
    length = min(len(mel), len(expected))
    f0, expected = pitch_at_hop(wave.numpy(), len(mel))[:length], expected[:length]
    assert ((f0 > 0) == (expected > 0)).mean() >= 0.99
    both = (f0 > 0) & (expected > 0)
    assert (np.abs(f0[both] / expected[both] - 1) < 0.01).mean() >= 0.99


@pytest.fixture(scope="module")
def tiny_hubert(golden):
    from transformers import HubertConfig, HubertModel
    config = HubertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                          conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
                          feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True,
                          feat_proj_layer_norm=True)
    network = HubertModel(config)
    network.load_state_dict(golden("hubert_tiny").weights())
    return HubertFeatures(network)


@pytest.mark.parametrize("samples", [400, 719, 720, 16000, 50001, 320000, 320080, 320400, 335000])
def test_hubert_frames_and_chunks(golden, tiny_hubert, samples):
    g, key = golden("hubert_tiny"), f"n{samples}"
    t = np.arange(samples) / 16000
    wave = g.input("hubert.wav", (samples,), std=0.1, prefix="input.").double().numpy()
    wave = torch.from_numpy(wave * (1 + 0.8 * np.sin(2 * np.pi * t / 1.7)) + 0.05)
    calls: list[list[int]] = []
    hook = tiny_hubert.network.register_forward_hook(
        lambda _m, inputs, out: calls.append([inputs[0].shape[1], out.last_hidden_state.shape[1]]))
    frames = tiny_hubert(wave)
    hook.remove()
    assert len(frames) == int(g.npz[f"{key}.frames"])
    assert np.array_equal(calls, g.npz[f"{key}.mid.chunks"])
    check(frames, g.npz, f"{key}.out", 1e-4, **OUT)
    assert relative_error(frames[-2:], g.npz[f"{key}.out.last"], "max") < 1e-4


def a2m_inputs(g) -> dict[str, Tensor]:
    mask = torch.zeros(3, 40)
    for row, length in enumerate((40, 31, 24)):
        mask[row, :length] = 1
    shapes = {"exp_gt": 64, "exp_pred": 64, "lm_gt": 1404, "lm_pred": 1404}
    return {"mask": mask} | {name: g.input(f"losses.{name}", (3, 40, c)) for name, c in shapes.items()}


def test_all_terms_of_the_motion_loss(golden):
    g = golden("losses")
    x = a2m_inputs(g)
    mask, truth, pred = x["mask"], x["exp_gt"], x["exp_pred"].requires_grad_()
    check(losses.mean_square(pred, truth, mask), g.npz, "a2m.mse", 1e-5)
    check(losses.mean_absolute(pred, truth, mask), g.npz, "a2m.mae", 1e-5)
    check(losses.magnitude(pred, mask), g.npz, "a2m.l2_reg", 1e-5)
    check(losses.velocity(pred, mask), g.npz, "a2m.velocity", 1e-5)
    check(losses.continuity(pred, truth, mask), g.npz, "a2m.continuity", 1e-5)
    check(losses.landmark_error(x["lm_pred"], x["lm_gt"], mask), g.npz, "a2m.lm468", 1e-5)
    check(losses.landmark_error(x["lm_pred"][..., :204], x["lm_gt"][..., :204], mask), g.npz, "a2m.lm68", 1e-5)
    smooth = losses.laplacian_zero_ends(pred, mask)
    smooth.backward()
    check(smooth, g.npz, "a2m.laplacian", 1e-5)
    assert relative_error(1e3 * pred.grad[:, ::8, ::4], g.npz["a2m.laplacian.grad.8x4"], "max") < 1e-4


def test_kl_terms_and_annealing(golden):
    g = golden("losses")
    mean, noise, prior = (g.input(f"losses.kl_{name}", (3, 16, 10)) for name in ("m", "eps", "zp"))
    log_scale = g.input("losses.kl_logs", (3, 16, 10), -0.5, 0.3)
    mask = a2m_inputs(g)["mask"][:, None, ::4]
    latent = mean + log_scale.exp() * noise
    check(losses.kl_flow(mean, log_scale, latent, prior, mask), g.npz, "a2m.kl_flow", 1e-5)
    check(losses.kl_normal(mean, log_scale, mask), g.npz, "a2m.kl_plain", 1e-5)
    weights = torch.tensor([losses.kl_weight(int(step), 0.02) for step in g.npz["in.kl_steps"]])
    check(weights, g.npz, "a2m.kl_weight", 1e-5)


def test_sync_terms(golden):
    g = golden("losses")
    audio, mouth = (torch.nn.functional.normalize(g.input(f"losses.emb_{n}", (12, 32)).relu(), dim=-1)
                    for n in ("audio", "mouth"))
    labels, valid = g.input("losses.sync_label", (12,)) > 0, g.input("losses.sync_ok", (12,)) > -0.5
    cosine = torch.cosine_similarity(audio, mouth)
    check(cosine, g.npz, "sync.cosine", 1e-5)
    check(losses.binary_cross_entropy(cosine, labels).mean(), g.npz, "sync.mean", 1e-5)
    positive = losses.binary_cross_entropy(cosine, torch.ones(12))
    check(positive, g.npz, "sync.positive", 1e-5)
    check(losses.mean_where(positive, valid), g.npz, "sync.masked", 1e-5)


@pytest.mark.parametrize("count", [68, 468])
def test_smoothed_landmarks_blink(golden, count):
    g = golden("losses")
    landmarks = g.input(f"losses.lm{count}", (120, count, 3), 0, 0.05)
    padded = torch.cat([landmarks[:1].expand(3, -1, -1), landmarks, landmarks[-1:].expand(3, -1, -1)])
    landmarks = torch.stack([padded[i:i + 120] for i in range(7)]).mean(0)
    assert torch.equal(amplitude.blink_units(landmarks), torch.from_numpy(g.npz[f"blink.{count}"]))
    check(amplitude.eye_amplitude(landmarks), g.npz, f"eye_amp.{count}", 1e-5)
    check(amplitude.mouth_amplitude(landmarks), g.npz, f"mouth_amp.{count}", 1e-5)


def test_batches_by_length(golden):
    g = golden("losses")
    sizes = [int(size) for size in g.npz["in.bucket.sizes"]]
    buckets = length_buckets(sizes, max_clips=12, max_tokens=900)
    assert [len(b) for b in buckets] == g.npz["bucket.counts"].tolist()
    assert [i for b in buckets for i in b] == g.npz["bucket.order"].tolist()


@pytest.mark.parametrize(("name", "rate"), [("a2m", exponential_rate), ("syncnet", stepped_rate)])
def test_learning_rates_of_the_audio_stages(golden, name, rate):
    g = golden("losses")
    found = torch.tensor([[rate(int(step))] for step in g.npz["in.schedule.steps"]])
    check(found, g.npz, f"schedule.{name}", 1e-5)
