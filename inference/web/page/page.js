// The page: a face, a speech, a button; the result beside the photo.

import { LiveTalk } from "/page/live.js";
import { Refused, ask, askJson, forget } from "/page/server.js";

const POLL = 300; // milliseconds
const KEEP = 120000; // milliseconds after which the server is told that its things are still wanted
const $ = (name) => document.getElementById(name);
const state = {
  portrait: null, // of the server: its name
  media: {}, // by mode: what was uploaded
  video: null, // its address
  live: null,
  limits: null,
  shot: 0, // counts faces, so that an answer that comes late is not taken
};

// ---- words

function say(text) {
  $("status").textContent = text;
}

function complain(where, error) {
  if (!(error instanceof Refused)) console.error(error);
  $(where).textContent = error instanceof Refused ? error.message : "Something went wrong in this page; load it again.";
}

function clear(...names) {
  for (const name of names) $(name).textContent = "";
}

function show(name, visible) {
  $(name).hidden = !visible;
}

function checkSize(file, most) {
  if (most && file.size > most) throw new Refused(`The file has ${Math.round(file.size / 1e6)} MB; at most ${most / 1e6} MB can be sent.`);
}

// ---- the face

async function chooseFace(body, query, caption) {
  const shot = ++state.shot;
  clear("face-error", "error");
  say("Looking at the face …");
  $("go").disabled = true;
  try {
    if (body) checkSize(body, state.limits?.photo_bytes);
    const { portrait } = await (await ask("POST", `/portraits${query}`, body)).json();
    if (shot !== state.shot) return forget(`/portraits/${portrait}`);
    forget(state.portrait && `/portraits/${state.portrait}`);
    state.portrait = portrait;
    $("still").src = `/portraits/${portrait}/picture`;
    $("still").alt = `${caption}, cut to the face`;
    $("still-caption").textContent = caption;
    show("still", true);
    say("The face is ready.");
  } catch (error) {
    if (shot !== state.shot) return;
    say("");
    complain("face-error", error);
  } finally {
    if (shot === state.shot && !state.busy) $("go").disabled = false;
  }
}

const choosePhoto = (file) => file && chooseFace(file, "", "Photo");
const chooseDemo = () => chooseFace(undefined, "?person=demo", "Demo person");

async function openCamera() {
  clear("face-error");
  try {
    if (!navigator.mediaDevices) throw new Refused("The browser gives no camera here; open the page by https or on localhost.");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 960, facingMode: "user" } })
      .catch(() => { throw new Refused("The camera may not be used. Allow it in the browser, or choose a photo."); });
    $("camera-picture").srcObject = stream;
    $("camera-dialog").showModal();
  } catch (error) {
    complain("face-error", error);
  }
}

function shoot() {
  const picture = $("camera-picture");
  const canvas = Object.assign(document.createElement("canvas"), { width: picture.videoWidth, height: picture.videoHeight });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  canvas.toBlob((blob) => { $("camera-dialog").close(); choosePhoto(blob); }, "image/jpeg", 0.95);
}

function closeCamera() {
  $("camera-picture").srcObject?.getTracks().forEach((track) => track.stop());
  $("camera-picture").srcObject = null;
}

// ---- the speech

const mode = () => document.querySelector("input[name=mode]:checked").value;

function showMode() {
  for (const panel of document.querySelectorAll("[data-mode]")) panel.hidden = panel.dataset.mode !== mode();
  if (!state.busy) $("go").textContent = mode() === "live" ? "Start talking" : "Make the video";
}

async function upload(kind, body, label) {
  clear("speech-error");
  label.textContent = "Sending …";
  try {
    checkSize(body, state.limits?.media_bytes);
    const media = await (await ask("POST", "/media", body)).json();
    if (kind === "clip" ? !media.pictures : !media.sound) {
      forget(`/media/${media.media}`);
      throw new Refused(kind === "clip"
        ? "This file has no moving pictures. Choose a video, or take it as a sound file."
        : "This file has no sound. Choose another.");
    }
    forget(state.media[kind] && `/media/${state.media[kind]}`);
    state.media[kind] = media.media;
    label.textContent = `${body.name ?? "Recording"}, ${media.seconds.toFixed(1)} s`;
  } catch (error) {
    label.textContent = state.media[kind] ? "The one before is kept." : "No file yet";
    complain("speech-error", error);
  }
}

let recorder = null;
async function record() {
  if (recorder) return recorder.stop();
  clear("speech-error");
  let stream;
  try {
    if (!navigator.mediaDevices) throw new Refused("The browser gives no microphone here; open the page by https or on localhost.");
    stream = await navigator.mediaDevices.getUserMedia({ audio: true })
      .catch(() => { throw new Refused("The microphone may not be used. Allow it in the browser, or choose a sound file."); });
  } catch (error) {
    return complain("speech-error", error);
  }
  const pieces = [];
  const began = Date.now();
  const most = (state.limits?.speech_seconds ?? 60) - 1;
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  const clock = setInterval(() => {
    const seconds = (Date.now() - began) / 1000;
    $("record-time").textContent = `${seconds.toFixed(0)} s`;
    if (seconds > most) recorder.stop();
  }, 250);
  recorder.onstop = () => {
    clearInterval(clock);
    stream.getTracks().forEach((track) => track.stop());
    const sound = new Blob(pieces, { type: recorder.mimeType });
    recorder = null;
    $("record").textContent = "Record again";
    $("record").classList.remove("recording");
    URL.revokeObjectURL($("record-sound").src);
    $("record-sound").src = URL.createObjectURL(sound);
    show("record-sound", true);
    upload("record", sound, $("record-time"));
  };
  recorder.start();
  $("record").textContent = "Stop recording";
  $("record").classList.add("recording");
}

// ---- the video

function options() {
  const result = {
    mouth_amplitude: Number($("mouth_amplitude").value),
    temperature: Number($("temperature").value),
    seed: Math.round(Number($("seed").value)),
    pose: mode() === "live" && $("pose").value === "orbit" ? "natural" : $("pose").value,
    background: $("background").value === "colour" ? $("colour").value : "photo",
  };
  return mode() === "live"
    ? { ...result, blinks: $("blink").value === "period" }
    : { ...result, blink: $("blink").value, seconds: $("seconds").value ? Number($("seconds").value) : null, layers: $("layers").checked };
}

function setBusy(busy) {
  state.busy = busy;
  $("go").disabled = busy;
  show("cancel", busy);
  $("cancel").textContent = mode() === "live" ? "Stop" : "Cancel";
  for (const part of document.querySelectorAll("#face button, #face input, #speech button, #speech input:not(#hear)")) part.disabled = busy;
  if (!busy) showMode();
}

function forgetVideo() {
  forget(state.video);
  state.video = null;
  $("video").removeAttribute("src");
  $("video").load();
  show("video", false);
  show("downloads", false);
}

async function make(event) {
  event.preventDefault();
  clear("error", "speech-error");
  if (state.busy) return;
  const kind = mode();
  if ((kind === "file" || kind === "record" || kind === "clip") && !state.media[kind]) {
    $("speech-error").textContent = kind === "record" ? "Record something first." : "Choose a file first.";
    return;
  }
  setBusy(true);
  forgetVideo();
  try {
    if (!state.portrait) await chooseDemo();
    if (!state.portrait) throw new Refused("There is no face yet.");
    await (kind === "live" ? talk() : makeVideo(kind));
  } catch (error) {
    say("");
    complain("error", error);
  } finally {
    show("progress", false);
    setBusy(false);
  }
}

async function makeVideo(kind) {
  const asked = { portrait: state.portrait, options: options() };
  if (kind === "clip") asked.driving = state.media.clip;
  else if (kind !== "demo") asked.speech = state.media[kind];
  for (const part of ["canvas", "stream"]) show(part, false);
  show("empty", true);
  $("bar").removeAttribute("value");
  $("progress-text").textContent = "";
  show("progress", true);
  $("stage").scrollIntoView({ block: "nearest" });
  const { video } = await askJson("POST", "/videos", asked);
  const address = state.video = `/videos/${video}`;
  say(kind === "clip" ? "Watching the video …" : "Listening to the speech …");
  let began = null;
  for (;;) {
    const { state: now, frames, total, error } = await askJson("GET", address).catch((refused) => {
      if (state.video !== address) return { state: "cancelled" }; // it was cancelled here
      throw refused;
    });
    if (now === "failed") throw new Refused(error);
    if (now === "cancelled" || state.video !== address) return say("Cancelled.");
    if (now === "done") break;
    if (now === "waiting") $("progress-text").textContent = "Other videos are made first.";
    if (total) {
      if (began === null) { began = { time: Date.now(), frames }; say("Drawing …"); }
      Object.assign($("bar"), { max: total, value: frames });
      if (frames === total) say("Packing …");
      $("progress-text").textContent = `Frame ${frames} of ${total}${left(began, frames, total)}`;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
  $("video").src = `${address}/file`;
  $("save-video").href = `${address}/file`;
  $("save-motion").href = `${address}/motion.json`;
  $("save-layers").href = `${address}/layers.zip`;
  show("save-layers", asked.options.layers);
  $("save-curves").href = `${address}/motion.csv`;
  $("result-caption").textContent = "Video";
  for (const part of ["empty", "canvas", "stream"]) show(part, false);
  for (const part of ["video", "downloads"]) show(part, true);
  say("The video is ready.");
  $("video").play().catch(() => {}); // the browser may want a click
}

function left(began, frames, total) {
  const rate = (frames - began.frames) / (Date.now() - began.time);
  const seconds = (total - frames) / rate / 1000;
  return frames - began.frames > 5 ? `, about ${seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`} left` : "";
}

async function talk() {
  const over = new Promise((resolve, reject) => {
    const places = { canvas: $("canvas"), video: $("stream") };
    state.live = new LiveTalk(places, liveNews, (failure) => (failure ? reject(new Refused(failure)) : resolve()));
  });
  try {
    say("Opening the microphone …");
    await state.live.start(state.portrait, options());
    for (const part of ["empty", "video", "canvas", "stream"]) show(part, false);
    state.live.player.element.hidden = false;
    $("stage").scrollIntoView({ block: "nearest" });
    say("Speak. The portrait follows you.");
    state.live.hearMyself($("hear").checked);
    await over;
    say("The microphone is off.");
  } catch (error) {
    over.catch(() => {});
    state.live.close(null);
    throw error;
  } finally {
    state.live = null;
    $("result-caption").textContent = "Live";
  }
}

function liveNews({ delay, rate, skipping }) {
  state.live?.hearMyself($("hear").checked);
  const words = skipping ? "the computer is slower than you, some is left out" : `${Math.max(0, delay).toFixed(1)} s behind you`;
  $("result-caption").textContent = `Live, ${rate} pictures a second, ${words}`;
}

function cancel() {
  if (state.live) return state.live.stop();
  forgetVideo();
  say("Cancelled.");
}

// The server forgets what nobody asks for; a page that is open still wants what it shows.
function keep() {
  if (state.portrait) ask("HEAD", `/portraits/${state.portrait}/picture`).catch(() => {});
  if (state.video && !state.busy) ask("GET", state.video).catch(() => {});
  for (const media of Object.values(state.media)) ask("GET", `/media/${media}`).catch(() => {});
}

// ---- start

function dropHere(card) {
  card.addEventListener("dragover", (event) => { event.preventDefault(); card.classList.add("over"); });
  card.addEventListener("dragleave", () => card.classList.remove("over"));
  card.addEventListener("drop", (event) => {
    event.preventDefault();
    card.classList.remove("over");
    if (!state.busy) choosePhoto(event.dataTransfer.files[0]);
  });
}

function wire() {
  $("photo-file").onchange = ({ target }) => { choosePhoto(target.files[0]); target.value = ""; };
  $("speech-file").onchange = ({ target }) => target.files[0] && upload("file", target.files[0], $("speech-name"));
  $("clip-file").onchange = ({ target }) => target.files[0] && upload("clip", target.files[0], $("clip-name"));
  $("person").onclick = chooseDemo;
  $("camera").onclick = openCamera;
  $("shoot").onclick = shoot;
  $("camera-close").onclick = () => $("camera-dialog").close();
  $("camera-dialog").onclose = closeCamera;
  $("record").onclick = record;
  $("cancel").onclick = cancel;
  $("form").onsubmit = make;
  $("background").onchange = () => show("colour", $("background").value === "colour");
  for (const radio of document.querySelectorAll("input[name=mode]")) radio.onchange = () => { clear("speech-error", "error"); showMode(); };
  for (const name of ["mouth_amplitude", "temperature"]) $(name).oninput = () => ($(`${name}-value`).textContent = $(name).value);
  dropHere($("face"));
  addEventListener("pagehide", () => {
    state.live?.close(null);
    forget(state.video);
    forget(state.portrait && `/portraits/${state.portrait}`);
    for (const media of Object.values(state.media)) forget(`/media/${media}`);
  });
  addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // what it had is deleted
}

wire();
showMode();
setInterval(keep, KEEP);
state.limits = await askJson("GET", "/limits").catch(() => null);
if (!state.shot) await chooseDemo();
