// What shows a live session: its stream of video and sound where the browser plays that, pictures on a canvas elsewhere.
//
// Both have: frames (what the server is asked for), element, seconds of speech received and shown, pictures drawn,
// waiting (seconds that are not shown yet), and ready, take, hearMyself, close.

const TYPICAL = 'video/mp4; codecs="avc1.4d401f, mp4a.40.2"';

// A video element by Media Source. Voice and picture are in one stream, so that they are in step.
export class StreamPlayer {
  static BEGIN = 0.25; // seconds that wait before it plays
  static FASTER = 0.5; // seconds from which on it plays faster ...
  static MOST = 1.2; // ... and jumps
  static KEPT = 10; // seconds behind, of which the browser keeps no more
  static failed = false; // on this page

  static works() {
    return !StreamPlayer.failed && Boolean(window.MediaSource?.isTypeSupported(TYPICAL));
  }

  constructor(video) {
    this.element = video;
    this.frames = "mp4";
    this.received = 0;
    this.parts = [];
  }

  ready({ mime }, broken) {
    const { element } = this;
    const source = new MediaSource();
    this.address = URL.createObjectURL(source);
    this.fail = () => {
      if (this.over) return;
      StreamPlayer.failed = true; // the next time by pictures
      broken("The browser cannot play the stream; start again to see pictures instead");
    };
    element.onerror = this.fail;
    source.onsourceopen = () => {
      try {
        this.buffer = source.addSourceBuffer(mime);
      } catch {
        return this.fail();
      }
      this.buffer.onupdateend = () => this.pump();
      this.pump();
    };
    element.muted = true; // until "hear myself"; what is muted may play without a click
    element.src = this.address;
  }

  take(data) {
    this.received = new DataView(data).getFloat64(8, true);
    this.parts.push(data.slice(16));
    this.pump();
  }

  // Hand over what came, forget what was shown long ago, and stay near to the end.
  pump() {
    const { buffer, element } = this;
    if (this.over || !buffer || buffer.updating) return;
    const { currentTime } = element;
    const begin = buffer.buffered.length ? buffer.buffered.start(0) : 0;
    if (this.parts.length) return this.append();
    if (currentTime - begin > 2 * StreamPlayer.KEPT) return buffer.remove(begin, currentTime - StreamPlayer.KEPT);
    const { waiting } = this;
    if (element.paused) {
      if (waiting < StreamPlayer.BEGIN) return;
      if (currentTime < begin) element.currentTime = begin;
      element.play().catch(() => {});
    } else if (waiting > StreamPlayer.MOST) element.currentTime += waiting - StreamPlayer.BEGIN;
    element.playbackRate = waiting > StreamPlayer.FASTER ? 1.1 : 1;
  }

  append() {
    try {
      this.buffer.appendBuffer(concatenated(this.parts.splice(0)));
    } catch {
      this.fail(); // it may hold no more, or is broken, of which the element tells, too
    }
  }

  get waiting() {
    const { buffered } = this.element;
    return buffered.length ? buffered.end(buffered.length - 1) - this.element.currentTime : 0;
  }

  get shown() {
    return this.element.currentTime;
  }

  get drawn() {
    const { totalVideoFrames, droppedVideoFrames } = this.element.getVideoPlaybackQuality();
    return totalVideoFrames - droppedVideoFrames;
  }

  hearMyself(on) {
    this.element.muted = !on;
  }

  close() {
    this.over = true;
    this.element.onerror = null;
    this.element.pause(); // the last picture stays
    if (this.address) URL.revokeObjectURL(this.address);
  }
}

function concatenated(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(new Uint8Array(part), at);
    at += part.byteLength;
  }
  return all.buffer;
}

// A canvas by the clock of the audio context: a picture of time t shows what was said t seconds after the first sample.
export class PicturePlayer {
  static BUFFER = 0.12; // seconds by which pictures wait, so that they come evenly
  static MOST = 0.6; // seconds of pictures that may wait before some are skipped

  // source: the microphone's node, which is heard as much later as the pictures come.
  constructor(canvas, context, source) {
    Object.assign(this, { element: canvas, context });
    this.frames = "jpeg";
    this.pictures = [];
    this.received = this.shown = this.drawn = 0;
    this.offset = null; // of the audio clock and the time of the pictures
    this.decoding = Promise.resolve();
    this.echo = new DelayNode(context, { maxDelayTime: 5, delayTime: 1 });
    this.volume = new GainNode(context, { gain: 0 });
    source.connect(this.echo).connect(this.volume).connect(context.destination);
  }

  ready() {
    requestAnimationFrame(() => this.draw());
  }

  take(data) {
    this.decoding = this.decoding.then(() => this.decode(data)).catch(() => {});
  }

  async decode(data) {
    const time = new DataView(data).getFloat64(8, true);
    const bitmap = await createImageBitmap(new Blob([data.slice(16)], { type: "image/jpeg" }));
    if (this.over) return;
    this.received = time + 0.04;
    this.pictures.push({ time, bitmap });
    const now = this.context.currentTime;
    if (this.offset === null || time - (now - this.offset) > PicturePlayer.MOST) this.offset = now + PicturePlayer.BUFFER - time;
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
      const { element } = this;
      if (element.width !== latest.bitmap.width) element.width = element.height = latest.bitmap.width;
      element.getContext("2d").drawImage(latest.bitmap, 0, 0);
      latest.bitmap.close();
      this.shown = latest.time;
      this.drawn += 1;
    } else if (!this.pictures.length && now > this.received) {
      this.offset += now - this.received; // the clock waits for pictures
    }
  }

  get waiting() {
    return this.offset === null ? 0 : Math.max(0, this.received + this.offset - this.context.currentTime);
  }

  hearMyself(on, delay) {
    this.volume.gain.value = on ? 1 : 0;
    this.echo.delayTime.setTargetAtTime(Math.min(4.9, Math.max(0, delay)), this.context.currentTime, 0.3);
  }

  close() {
    this.over = true;
    this.pictures.forEach(({ bitmap }) => bitmap.close());
  }
}
