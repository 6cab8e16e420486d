'use strict';

// The bus: what workers tell and what happens to them, as server-sent events, of each app that the client talks to.

const fs = require('fs');
const http = require('http');
const { ReuseError } = require('./error');
const { FOLDER, explained } = require('./socket');

// An event that is longer is a mistake; a message has 16 MiB at most.
const MAX_EVENT_CHARACTERS = 64 * 1024 * 1024;
// How often it is seen which apps are there: when something happened in their folder, so that little of what a new one says is missed, and else.
const LOOK_MS = { soon: 20, usual: 500 };
const SOON_FOR_MS = 3000;

// How long one that did not answer is left alone, at first and at most.
const RETRY_MS = [20, 1000];

// Splits a stream of text into events.
class Parser {
  constructor(tell) {
    this.tell = tell;
    this.rest = '';
    this.reset();
  }

  reset() {
    this.event = 'message';
    this.data = [];
  }

  push(text) {
    // Only what is new is looked through: a message may come in hundreds of pieces.
    const lines = text.split('\n');
    lines[0] = this.rest + lines[0];
    this.rest = lines.pop();
    for (const line of lines) this.line(line.endsWith('\r') ? line.slice(0, -1) : line);
  }

  line(line) {
    if (line === '') {
      if (this.data.length > 0) this.tell(this.event, this.data.join('\n'));
      this.reset();
      return;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.event = value;
    if (name === 'data') this.data.push(value);
  }
}

class Bus {
  constructor(apps) {
    this.apps = apps;
    this.handlers = [];
    this.closed = false;
    // The names of those that we hear; what is being opened, and who did not answer, by name.
    this.streams = new Set();
    this.opening = new Map();
    this.resting = new Map();
    this.requests = new Set();
    this.isLeft = false;
    this.timer = null;
    this.watcher = null;
    this.soonUntilMs = 0;
  }

  // `name` may have stars; what they stand for comes before the packet: bus.on('log:*', (which, packet) => …).
  on(name, handler) {
    if (typeof handler !== 'function') throw new ReuseError('usage', 'bus.on needs a function');
    const escaped = String(name).replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '(.+)');
    this.handlers.push({ name: String(name), pattern: new RegExp(`^${escaped}$`, 's'), handler });
    return this;
  }

  addListener(name, handler) {
    return this.on(name, handler);
  }

  once(name, handler) {
    const once = (...given) => {
      this.off(name, once);
      handler(...given);
    };
    once.handler = handler;
    return this.on(name, once);
  }

  off(name, handler) {
    const isMeant = (one) => one.name === name && (!handler || one.handler === handler || one.handler.handler === handler);
    this.handlers = this.handlers.filter((one) => !isMeant(one));
    return this;
  }

  removeListener(name, handler) {
    return this.off(name, handler);
  }

  removeAllListeners(name) {
    if (name === undefined) this.handlers = [];
    else this.off(name);
    return this;
  }

  close(done) {
    this.closed = true;
    clearTimeout(this.timer);
    if (this.watcher) this.watcher.close();
    for (const request of this.requests) request.destroy();
    if (typeof done === 'function') setImmediate(done);
  }

  emit(name, ...packets) {
    for (const { pattern, handler } of [...this.handlers]) {
      const found = pattern.exec(name);
      if (found) handler(...found.slice(1), ...packets);
    }
  }

  // Resolves when the controllers of these apps send: what happens from then on is not missed.
  async open(targets) {
    const answers = await Promise.allSettled(targets.map((target) => this.join(target)));
    const failed = answers.find(({ status }) => status === 'rejected');
    if (failed && this.streams.size === 0) throw failed.reason;
    this.watch();
    this.lookAgain();
    return this;
  }

  // Listens to an app, unless it does already.
  join(target) {
    if (this.closed || this.streams.has(target.app)) return Promise.resolve();
    if (!this.opening.has(target.app)) {
      const opened = this.listen(target).finally(() => this.opening.delete(target.app));
      this.opening.set(target.app, opened);
    }
    return this.opening.get(target.app);
  }

  listen(target) {
    return new Promise((resolve, reject) => {
      const failed = (error) => reject(explained(error, target));
      const request = http.request({
        socketPath: target.socketPath,
        host: 'reuse',
        path: '/v1/bus',
        agent: false,
        headers: { accept: 'text/event-stream' },
      });
      this.requests.add(request);
      request.on('close', () => this.requests.delete(request));
      request.on('error', failed);
      request.on('response', (response) => {
        if (response.statusCode !== 200 || this.closed) {
          response.resume();
          request.destroy();
          failed(new ReuseError('failed', `GET /v1/bus: status ${response.statusCode}`, 'is the controller of this version?'));
          return;
        }
        this.streams.add(target.app);
        this.resting.delete(target.app);
        if (this.isLeft) setImmediate(() => this.emit('connect'));
        this.isLeft = false;
        this.follow(this.apps.known(target.app), response);
        resolve();
      });
      request.end();
    });
  }

  follow({ app, base }, response) {
    const parser = new Parser((name, data) => {
      let packet;
      try {
        packet = JSON.parse(data);
      } catch {
        return;
      }
      if (packet && packet.process && Number.isInteger(packet.process.pm_id)) packet.process.pm_id += base;
      // Not within the parser: an error in a handler is the program's own, and must be seen as one.
      this.emit(name, packet);
    });
    let isOver = false;
    const over = () => {
      if (isOver) return;
      isOver = true;
      this.streams.delete(app);
      this.rest(app);
      // Of several apps one may end without the others.
      if (this.closed || this.streams.size > 0) return;
      this.isLeft = true;
      this.emit('close');
    };
    response.setEncoding('utf8');
    response.on('data', (text) => {
      if (this.closed) return;
      parser.push(text);
      if (parser.rest.length > MAX_EVENT_CHARACTERS) response.destroy();
    });
    response.on('error', over);
    response.on('close', over);
    response.on('end', over);
  }

  rest(app) {
    const { delayMs } = this.resting.get(app) || { delayMs: RETRY_MS[0] / 2 };
    const next = Math.min(delayMs * 2, RETRY_MS[1]);
    this.resting.set(app, { delayMs: next, untilMs: Date.now() + next });
  }

  // Without it apps are found all the same, a little later.
  watch() {
    try {
      this.watcher = fs.watch(FOLDER, () => {
        this.soonUntilMs = Date.now() + SOON_FOR_MS;
        this.lookAgain();
      });
      this.watcher.on('error', () => {});
    } catch {
      this.watcher = null;
    }
  }

  // A controller may be replaced, and apps may start: we are there when they are.
  lookAgain() {
    clearTimeout(this.timer);
    if (this.closed) return;
    const isSoon = Date.now() < this.soonUntilMs;
    this.timer = setTimeout(
      () => {
        this.look();
        this.lookAgain();
      },
      isSoon ? LOOK_MS.soon : LOOK_MS.usual,
    );
  }

  look() {
    const there = this.apps.candidates();
    for (const app of this.resting.keys()) {
      if (!there.some((target) => target.app === app)) this.resting.delete(app);
    }
    for (const target of there) {
      const { untilMs } = this.resting.get(target.app) || { untilMs: 0 };
      if (this.streams.has(target.app) || this.opening.has(target.app) || Date.now() < untilMs) continue;
      this.join(target).catch(() => this.rest(target.app));
    }
  }
}

module.exports = { Bus, Parser };
