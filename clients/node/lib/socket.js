'use strict';

// Requests over an app's control socket.

const http = require('http');
const path = require('path');
const { ReuseError } = require('./error');

const FOLDER = '/run/reuse-ctl';

// Longer than any answer; a message may have 16 MiB.
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

const socketOf = (app) => path.join(FOLDER, app, 'control.sock');

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

// One request, with its answer as text. `limitMs` is for those that are not worth waiting for.
function exchange(target, agent, method, route, body, limitMs) {
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
    if (limitMs) request.setTimeout(limitMs, () => request.destroy(new Error(`no answer within ${limitMs} ms`)));
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
async function ask(target, agent, method, route, body, limitMs) {
  let answer;
  try {
    answer = await exchange(target, agent, method, route, body, limitMs).catch((error) => {
      // The controller had closed a connection that we kept: it has not read anything.
      const isStale = error.wasReused && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      if (!isStale) throw error;
      return exchange(target, false, method, route, body, limitMs);
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

module.exports = { FOLDER, ask, explained, socketOf };
