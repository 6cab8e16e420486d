// Evaluates an ecosystem file and writes one line of JSON to descriptor 3: {"value": …} or {"error": {…}}. Runs in Node and in Bun.
'use strict';
const MAX_VALUES = 100000;
const MAX_DEPTH = 60;
const file = process.argv[process.argv.length - 1];

class Unusable extends Error {}

function say(answer) {
  const bytes = Buffer.from(JSON.stringify(answer) + '\n');
  const fs = require('fs');
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(3, bytes, done);
    } catch (error) {
      if (error.code !== 'EAGAIN') break;
    }
  }
}

// Not process.exit: the file may have replaced it, or hang in its handlers.
const end = () => process.kill(process.pid, 'SIGKILL');

function finish(answer) {
  say(answer);
  end();
}

// What JSON can't say gets a name that no file has; what can't be said at all is an error with its place.
function plain(value, place, above, count) {
  if ((count.values += 1) > MAX_VALUES) throw new Unusable(`it has more than ${MAX_VALUES} values`);
  switch (typeof value) {
    case 'undefined':
    case 'symbol':
      return null;
    case 'bigint':
      return String(value);
    case 'number':
      return Number.isFinite(value) ? value : String(value);
    case 'function':
      return { '\0function': value.name || 'anonymous' };
    case 'object':
      break;
    default:
      return value;
  }
  if (value === null) return null;
  if (value instanceof RegExp) return { '\0regular expression': value.source };
  if (value instanceof Date || value instanceof URL) return value.toJSON();
  if (value instanceof String || value instanceof Number || value instanceof Boolean) return value.valueOf();
  if (above.includes(value)) throw new Unusable(`${place || 'it'} contains itself: a cycle`);
  if (above.length >= MAX_DEPTH) throw new Unusable(`${place} is nested too deeply`);
  const inner = [...above, value];
  if (value instanceof Map) value = Object.fromEntries(value);
  if (value instanceof Set) value = [...value];
  if (Array.isArray(value)) {
    return Array.from(value, (item, at) => plain(item, `${place}[${at}]`, inner, count));
  }
  const result = {};
  for (const key of Object.keys(value)) {
    const item = value[key];
    if (item === undefined) continue;
    const copy = plain(item, place ? `${place}.${key}` : key, inner, count);
    Object.defineProperty(result, key, { value: copy, enumerable: true, configurable: true, writable: true });
  }
  return result;
}

function described(error) {
  const is = (kind) => typeof error === 'object' && error !== null && kind in error;
  if (!is('message')) return { name: 'thrown', message: String(error) };
  // Bun's own errors of parsing carry their place.
  const at = (is('errors') && error.errors[0] && error.errors[0].position) || (is('position') && error.position) || null;
  const inner = is('errors') && error.errors[0] && error.errors[0].message ? error.errors[0] : error;
  return {
    name: String(error.name || 'Error'),
    message: String(inner.message),
    stack: typeof error.stack === 'string' ? error.stack : '',
    code: typeof error.code === 'string' ? error.code : null,
    place: at && at.file ? { file: String(at.file), line: at.line, column: at.column } : null,
  };
}

(async () => {
  let value;
  try {
    const module = await import(require('url').pathToFileURL(file).href);
    value = module.default !== undefined ? module.default : { ...module };
    for (let turn = 0; turn < 3; turn += 1) {
      value = await (typeof value === 'function' ? value() : value);
      const isWrapped = value && typeof value === 'object' && !Array.isArray(value) && value.default && !value.apps && !value.script;
      if (isWrapped) value = value.default;
    }
    value = plain(value, '', [], { values: 0 });
  } catch (error) {
    if (error instanceof Unusable) return finish({ error: { name: 'unusable', message: error.message } });
    const description = described(error);
    const hasPlace = description.place || /^(file:\/\/)?\/.*:\d+$/m.test(description.stack);
    if (description.name === 'SyntaxError' && !hasPlace) {
      // Node shows the place of such an error in a module only when nobody catches it.
      say({ error: description, isPlaceOnStderr: true });
      process.removeAllListeners('uncaughtException');
      setTimeout(end, 1000);
      setImmediate(() => {
        throw error;
      });
      return;
    }
    return finish({ error: description });
  }
  return finish({ value });
})();
