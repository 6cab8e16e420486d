'use strict';

// The bus: what workers tell and what happens to them, as server-sent events.

const http = require('http');
const { ReuseError } = require('./error');
const { explained } = require('./socket');

// An event that is longer is a mistake; a message has 16 MiB at most.
const MAX_EVENT_CHARACTERS = 64 * 1024 * 1024;
const RETRY_MS = [100, 2000];

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
  constructor(target) {
    this.target = target;
    this.handlers = [];
    this.closed = false;
    this.request = null;
    this.timer = null;
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
    if (this.request) this.request.destroy();
    if (typeof done === 'function') setImmediate(done);
  }

  emit(name, ...packets) {
    for (const { pattern, handler } of [...this.handlers]) {
      const found = pattern.exec(name);
      if (found) handler(...found.slice(1), ...packets);
    }
  }

  // Resolves when the controller sends: what happens from then on is not missed.
  open() {
    return new Promise((resolve, reject) => {
      const failed = (error) => reject(explained(error, this.target));
      const request = http.request({
        socketPath: this.target.socketPath,
        host: 'reuse',
        path: '/v1/bus',
        agent: false,
        headers: { accept: 'text/event-stream' },
      });
      this.request = request;
      request.on('error', failed);
      request.on('response', (response) => {
        if (response.statusCode !== 200) {
          response.resume();
          failed(new ReuseError('failed', `GET /v1/bus: status ${response.statusCode}`, 'is the controller of this version?'));
          return;
        }
        this.listen(response);
        resolve(this);
      });
      request.end();
    });
  }

  listen(response) {
    const parser = new Parser((name, data) => {
      let packet;
      try {
        packet = JSON.parse(data);
      } catch {
        return;
      }
      // Not within the parser: an error in a handler is the program's own, and must be seen as one.
      this.emit(name, packet);
    });
    let isOver = false;
    const over = () => {
      if (isOver) return;
      isOver = true;
      if (this.closed) return;
      this.emit('close');
      this.again(RETRY_MS[0]);
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

  // The controller may be replaced: we are there again when it is.
  again(delayMs) {
    this.timer = setTimeout(async () => {
      if (this.closed) return;
      try {
        await this.open();
        this.emit('connect');
      } catch {
        if (!this.closed) this.again(Math.min(delayMs * 2, RETRY_MS[1]));
      }
    }, delayMs);
  }
}

module.exports = { Bus, Parser };
