// Live mode: the microphone goes to the server piece by piece, and what comes back is shown by one of the players.

import { PicturePlayer, StreamPlayer } from "/page/players.js";
import { Refused, askJson, forget, sentence } from "/page/server.js";

const MOST_BEHIND = 2.5; // seconds that the server may be behind before speech is left out ...
const BEHIND = 1.2; // ... until it is only so far behind
const GOODBYE = 2500; // milliseconds for the mouth to close

export class LiveTalk {
  // news: ({delay, rate, skipping}) about once a second; ended: (message or null), once.
  constructor({ canvas, video }, news, ended) {
    Object.assign(this, { canvas, video, news, ended });
    this.sent = 0; // seconds of speech
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
    this.source = this.context.createMediaStreamSource(this.stream);
    this.player = StreamPlayer.works() ? new StreamPlayer(this.video) : new PicturePlayer(this.canvas, this.context, this.source);
    const asked = { portrait, options: { ...options, rate, samples: "int16", frames: this.player.frames } };
    const session = await askJson("POST", "/sessions", asked);
    this.session = `/sessions/${session.session}`;
    if (this.over) return this.close(null);
    this.connect(session.socket, rate);
  }

  connect(path, rate) {
    this.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.hear(JSON.parse(data)) : this.player.take(data));
    this.socket.onopen = () => this.listen(rate);
    this.socket.onclose = ({ code, reason }) => {
      if (code === 1000 && this.stopping) return; // what came last is still to be shown
      this.close(code === 1000 || this.stopping ? null : reason || "The connection was lost");
    };
    this.tell();
  }

  listen(rate) {
    const microphone = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    this.source.connect(microphone);
    microphone.port.onmessage = ({ data }) => {
      if (this.stopping || this.socket.readyState !== WebSocket.OPEN) return;
      const behind = this.sent - this.player.received;
      this.skipping = behind > (this.skipping ? BEHIND : MOST_BEHIND);
      if (this.skipping) return;
      const samples = Int16Array.from(data, (x) => 32767 * Math.max(-1, Math.min(1, x)));
      this.socket.send(samples.buffer);
      this.sent += samples.length / rate;
    };
  }

  tell() {
    let before = 0;
    this.teller = setInterval(() => {
      const { drawn } = this.player;
      this.delay = this.sent - this.player.shown;
      this.news({ delay: this.delay, rate: drawn - before, skipping: this.skipping });
      before = drawn;
    }, 1000);
  }

  hearMyself(on) {
    this.player?.hearMyself(on, this.delay ?? 1);
  }

  hear(message) {
    if (message.type === "ready") this.player.ready(message, (line) => this.close(line));
    if (message.type === "error") this.failure = sentence(message.error);
    if (message.type === "interrupted") this.socket.send(JSON.stringify({ type: "end" })); // for the rest of the stream
    if (message.type === "ended") this.closer = setTimeout(() => this.close(null), 1000 * Math.min(1, this.player.waiting) + 300);
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
    clearTimeout(this.closer);
    this.stream?.getTracks().forEach((track) => track.stop());
    this.player?.close();
    this.context?.close();
    if (this.socket) this.socket.close(1000); // with which the server forgets the session
    else forget(this.session);
    this.ended(this.failure || (message && sentence(message)));
  }
}
