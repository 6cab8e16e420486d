'use strict';

// Which apps a client talks to, and which numbers their workers have in it.
//
// A client of one app (`connect({ app })`) has the numbers that the workers have themselves. One of all apps puts each app's workers behind a base of its
// own, so that no two have one number: 0 for the app that this process belongs to, or else for the first that it sees.

const fs = require('fs');
const path = require('path');
const { ReuseError } = require('./error');
const { FOLDER, socketOf } = require('./socket');

// The most workers that an app has.
const STEP = 256;

class Apps {
  constructor({ app, socket } = {}) {
    if (app && (app.includes('/') || app.startsWith('.'))) throw new ReuseError('usage', `${JSON.stringify(app)} is not an app's name`);
    this.only = app || socket ? { app: app || '', socketPath: socket || socketOf(app), base: 0 } : null;
    // An app that comes back has the numbers that it had; no other ever gets them.
    this.byName = new Map();
    this.next = 0;
    if (!this.only && process.env.REUSE_APP) this.known(process.env.REUSE_APP);
  }

  // Those that may be running, by what is in the folder: whoever asks them finds out.
  candidates() {
    if (this.only) return [this.only];
    let names;
    try {
      names = fs.readdirSync(FOLDER);
    } catch {
      return [];
    }
    return names
      .filter((name) => fs.existsSync(path.join(FOLDER, name, 'control.sock')))
      .sort()
      .map((name) => this.byName.get(name) || { app: name, socketPath: socketOf(name) });
  }

  // An app that has answered: from now on it has numbers.
  known(name) {
    if (this.only) return this.only;
    if (!this.byName.has(name)) {
      this.byName.set(name, { app: name, socketPath: socketOf(name), base: this.next });
      this.next += STEP;
    }
    return this.byName.get(name);
  }

  // The app of a worker's number, if one has it.
  of(id) {
    if (this.only) return this.only;
    const base = id - (id % STEP);
    return [...this.byName.values()].find((target) => target.base === base);
  }
}

module.exports = { Apps };
