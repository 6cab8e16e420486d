'use strict';

// Which app is meant, and requests over its control socket.

const fs = require('fs');
const http = require('http');
const net = require('net');
const path = require('path');
const { ReuseError } = require('./error');

const FOLDER = '/run/reuse-ctl';

// Longer than any answer; a message may have 16 MiB.
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

// The longest that a worker may be waited for to answer a look whether it is there.
const LOOK_MS = 2000;

const socketOf = (app) => path.join(FOLDER, app, 'control.sock');

// Whether somebody listens there.
function isAlive(socketPath) {
  return new Promise((resolve) => {
    const socket = net.connect({ path: socketPath });
    const done = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(LOOK_MS, () => done(false));
    socket.on('connect', () => done(true));
    // It is there, and somebody else's.
    socket.on('error', (error) => done(error.code === 'EACCES' || error.code === 'EPERM'));
  });
}

async function running() {
  let names = [];
  try {
    names = fs.readdirSync(FOLDER).sort();
  } catch {
    return [];
  }
  const alive = await Promise.all(names.map((name) => isAlive(socketOf(name))));
  return names.filter((_, at) => alive[at]);
}

// The app by its name, else the one that this process belongs to, else the only one there is.
async function find({ app, socket } = {}) {
  if (socket) return { app: app || '', socketPath: socket };
  const name = app || process.env.REUSE_APP;
  if (name) {
    if (name.includes('/') || name.startsWith('.')) throw new ReuseError('usage', `${JSON.stringify(name)} is no app's name`);
    return { app: name, socketPath: socketOf(name) };
  }
  const names = await running();
  if (names.length === 1) return { app: names[0], socketPath: socketOf(names[0]) };
  if (names.length === 0) {
    throw new ReuseError('not_found', 'no app is running', 'start one: sudo reuse-ctl run -- CMD');
  }
  const hint = `say which: connect({ app: '${names[0]}' }), or REUSE_APP=${names[0]} in the environment`;
  throw new ReuseError('usage', `several apps are running: ${names.join(', ')}`, hint);
}

function explained(error, { app, socketPath }) {
  if (error instanceof ReuseError) return error;
  switch (error.code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
    case 'FailedToOpenSocket':
      return new ReuseError('not_found', `no app ${app || socketPath} is running`, '`reuse-ctl ls` lists them');
    case 'EACCES':
    case 'EPERM':
      return new ReuseError('unreachable', `app ${app || socketPath} belongs to another user`, 'run as that user, or let it be started with --control-group');
    default:
      return new ReuseError('unreachable', `${socketPath}: ${error.message || error.code}`, '`reuse-ctl ls` shows whether it still runs');
  }
}

// One request, with its answer as text.
function exchange(target, agent, method, route, body) {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? '' : JSON.stringify(body);
    const request = http.request({
      socketPath: target.socketPath,
      host: 'reuse',
      path: route,
      method,
      agent,
      headers: text ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) } : {},
    });
    request.on('error', (error) => {
      error.wasReused = Boolean(request.reusedSocket);
      reject(error);
    });
    request.on('response', (response) => {
      const parts = [];
      let bytes = 0;
      response.on('data', (part) => {
        bytes += part.length;
        if (bytes > MAX_ANSWER_BYTES) request.destroy(new Error('the answer is too large'));
        else parts.push(part);
      });
      response.on('error', reject);
      response.on('aborted', () => reject(new Error('the answer has no end')));
      response.on('end', () => resolve({ status: response.statusCode, text: Buffer.concat(parts).toString('utf8') }));
    });
    request.end(text || undefined);
  });
}

// One request, with its answer as an object. What the controller refuses is an error.
async function ask(target, agent, method, route, body) {
  let answer;
  try {
    answer = await exchange(target, agent, method, route, body).catch((error) => {
      // The controller had closed a connection that we kept: it has not read anything.
      const isStale = error.wasReused && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      if (!isStale) throw error;
      return exchange(target, false, method, route, body);
    });
  } catch (error) {
    throw explained(error, target);
  }
  let value;
  try {
    value = JSON.parse(answer.text);
  } catch {
    throw new ReuseError('failed', `${method} ${route}: status ${answer.status}, and no JSON: ${answer.text.slice(0, 200)}`);
  }
  if (answer.status >= 400 || value.ok === false) {
    throw new ReuseError(value.kind || 'failed', value.error || `${method} ${route}: status ${answer.status}`, value.hint);
  }
  return value;
}

module.exports = { ask, explained, find };
