// Live mode: the microphone goes to the server piece by piece, pictures come back and are shown at their time.
//
// The clock is the audio context's: a picture of time t shows what was said t seconds after the first sample.

import { Refused, askJson, forget, sentence } from "/page/server.js";

const BUFFER = 0.12; // seconds by which pictures wait, so that they come evenly
const MOST_AHEAD = 0.6; // seconds of pictures that may wait before some are skipped
const MOST_BEHIND = 2.5; // seconds that the server may be behind before speech is left out ...
const BEHIND = 1.2; // ... until it is only so far behind
const GOODBYE = 1500; // milliseconds for the mouth to close

export class LiveTalk {
  // news: ({delay, rate, skipping}) about once a second; ended: (message or null), once.
  constructor(canvas, news, ended) {
    Object.assign(this, { canvas, news, ended });
    this.pictures = [];
    this.sent = this.received = this.shown = 0; // seconds of speech
    this.drawn = 0;
    this.offset = null; // of the audio clock and the time of the pictures
  }

  async start(portrait, options) {
    if (!navigator.mediaDevices) throw new Refused("The browser gives no microphone here; open the page by https or on localhost.");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch {
      throw new Refused("The microphone may not be used. Allow it in the browser, or choose another speech.");
    }
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/page/microphone.js");
    const rate = Math.round(this.context.sampleRate);
    const asked = { portrait, options: { ...options, rate, samples: "int16", frames: "jpeg" } };
    const session = await askJson("POST", "/sessions", asked);
    this.session = `/sessions/${session.session}`;
    if (this.over) return this.close(null);
    this.connect(session.socket, rate);
  }

  connect(path, rate) {
    this.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
    this.socket.binaryType = "arraybuffer";
    let decoding = Promise.resolve();
    this.socket.onmessage = ({ data }) => {
      if (typeof data === "string") return this.hear(JSON.parse(data));
      decoding = decoding.then(() => this.take(data)).catch(() => {});
    };
    this.socket.onopen = () => this.listen(rate);
    this.socket.onclose = ({ code, reason }) => this.close(code === 1000 || this.stopping ? null : reason || "The connection was lost");
    this.tell();
    requestAnimationFrame(() => this.draw());
  }

  listen(rate) {
    const source = this.context.createMediaStreamSource(this.stream);
    const microphone = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    source.connect(microphone);
    this.echo = new DelayNode(this.context, { maxDelayTime: 5, delayTime: 1 });
    this.volume = new GainNode(this.context, { gain: 0 });
    source.connect(this.echo).connect(this.volume).connect(this.context.destination);
    microphone.port.onmessage = ({ data }) => {
      if (this.stopping || this.socket.readyState !== WebSocket.OPEN) return;
      const behind = this.sent - this.received;
      this.skipping = behind > (this.skipping ? BEHIND : MOST_BEHIND);
      if (this.skipping) return;
      const samples = Int16Array.from(data, (x) => 32767 * Math.max(-1, Math.min(1, x)));
      this.socket.send(samples.buffer);
      this.sent += samples.length / rate;
    };
  }

  async take(data) {
    const time = new DataView(data).getFloat64(8, true);
    const bitmap = await createImageBitmap(new Blob([data.slice(16)], { type: "image/jpeg" }));
    if (this.over) return;
    this.received = time + 0.04;
    this.pictures.push({ time, bitmap });
    const now = this.context.currentTime;
    if (this.offset === null || time - (now - this.offset) > MOST_AHEAD) this.offset = now + BUFFER - time;
  }

  draw() {
    if (this.over) return;
    requestAnimationFrame(() => this.draw());
    if (this.offset === null) return;
    const now = this.context.currentTime - this.offset;
    let latest = null;
    while (this.pictures.length && this.pictures[0].time <= now) {
      latest?.bitmap.close();
      latest = this.pictures.shift();
    }
    if (latest) {
      const { canvas } = this;
      if (canvas.width !== latest.bitmap.width) canvas.width = canvas.height = latest.bitmap.width;
      canvas.getContext("2d").drawImage(latest.bitmap, 0, 0);
      latest.bitmap.close();
      this.shown = latest.time;
      this.drawn += 1;
    } else if (!this.pictures.length && now > this.received) {
      this.offset += now - this.received; // the clock waits for pictures
    }
  }

  tell() {
    let before = 0;
    this.teller = setInterval(() => {
      const delay = this.sent - this.shown;
      this.news({ delay, rate: this.drawn - before, skipping: this.skipping });
      before = this.drawn;
      if (this.echo) this.echo.delayTime.setTargetAtTime(Math.min(4.9, Math.max(0, delay)), this.context.currentTime, 0.3);
    }, 1000);
  }

  hearMyself(on) {
    if (this.volume) this.volume.gain.value = on ? 1 : 0;
  }

  hear(message) {
    if (message.type === "error") this.failure = sentence(message.error);
    if (message.type === "interrupted") setTimeout(() => this.socket.close(1000), 7 * 40 + 1000 * BUFFER);
  }

  // The mouth closes, then all is over.
  stop() {
    this.stopping = true;
    this.stream?.getTracks().forEach((track) => track.stop());
    if (this.socket?.readyState !== WebSocket.OPEN) return this.close(null);
    this.socket.send(JSON.stringify({ type: "interrupt" }));
    setTimeout(() => this.close(null), GOODBYE);
  }

  close(message) {
    if (this.over) return;
    this.over = true;
    clearInterval(this.teller);
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
    this.pictures.forEach(({ bitmap }) => bitmap.close());
    if (this.socket) this.socket.close(1000); // with which the server forgets the session
    else forget(this.session);
    this.ended(this.failure || (message && sentence(message)));
  }
}
