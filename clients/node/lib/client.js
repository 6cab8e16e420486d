'use strict';

// PM2's names. Each takes a callback (err, result) in the last place, or gives a promise without one.

const http = require('http');
const { Apps } = require('./apps');
const { Bus } = require('./bus');
const { descriptions } = require('./describe');
const { ReuseError } = require('./error');
const { ask } = require('./socket');

// How long one of several apps may be silent when all are asked, and by which requests all are asked.
const LOOK_MS = 5000;
const LOOKS = new Set(['/v1/status', '/v1/send']);

// What there is no such thing as, and what to do instead.
const INSTEAD = {
  start: 'apps are started by `reuse-ctl run` or `reuse-ctl apply -f reuse.toml`; `reuse-ctl import ecosystem.config.js` makes that file',
  delete: 'an app that is stopped is gone, with all it had: stop(name)',
  dump: 'apps are described by reuse.toml and started by systemd: `reuse-ctl unit`',
  startup: '`reuse-ctl unit` prints a systemd unit',
  flush: 'log files are rotated by size: `log_size` and `log_keep`',
  reloadLogs: 'log files are rotated by size: `log_size` and `log_keep`',
  killDaemon: 'there is no daemon: stop(name) ends an app with its controller',
  launchSysMonitoring: 'list() has memory and processor use',
  sendSignalToProcessName: 'list() has the process ids: process.kill(pid, signal)',
  sendSignalToProcessId: 'list() has the process ids: process.kill(pid, signal)',
};

function settle(promise, callback) {
  if (typeof callback !== 'function') return promise;
  // Not within the promise: what the callback throws is its own error, as with PM2.
  promise.then(
    (result) => setImmediate(callback, null, result),
    (error) => setImmediate(callback, error),
  );
  return undefined;
}

class Client {
  constructor() {
    this.apps = null;
    this.options = {};
    this.asked = null;
    // By the sockets' paths.
    this.agents = new Map();
    this.buses = new Set();
  }

  // connect(cb), connect(noDaemon, cb) as with PM2: all apps that the caller may reach. connect({ app: 'web' }, cb): this one alone.
  connect(options, callback) {
    if (typeof options === 'function') [options, callback] = [undefined, options];
    const { app, socket } = typeof options === 'object' && options !== null ? options : {};
    // The numbers that apps have stay.
    if (app !== this.options.app || socket !== this.options.socket) this.apps = null;
    this.options = { app, socket };
    this.hangUp();
    return settle(this.greet(), callback);
  }

  disconnect() {
    for (const bus of this.buses) bus.close();
    this.buses.clear();
    this.hangUp();
  }

  list(options, callback) {
    if (typeof options === 'function') callback = options;
    return settle(this.workers(), callback);
  }

  describe(which, callback) {
    return settle(this.some(which), callback);
  }

  reload(which, options, callback) {
    if (typeof options === 'function') callback = options;
    return settle(this.replace(which), callback);
  }

  // New processes are ready before old ones end, so that it is the same as reload.
  restart(which, options, callback) {
    if (typeof options === 'function') callback = options;
    return settle(this.replace(which), callback);
  }

  stop(which, callback) {
    return settle(this.stopAll(which), callback);
  }

  // (id, packet, cb) or (packet, cb), with packet.id then. The id "all" means every worker.
  sendDataToProcessId(id, packet, callback) {
    if (typeof id === 'object' && id !== null) [packet, callback] = [id, packet];
    else if (typeof packet === 'object' && packet !== null) packet = { ...packet, id };
    return settle(this.send(packet), callback);
  }

  launchBus(callback) {
    return settle(this.openBus(), callback);
  }

  getVersion(callback) {
    return settle(Promise.resolve(require('../package.json').version), callback);
  }

  async greet() {
    const all = await this.statuses();
    if (all.length === 0) throw new ReuseError('not_found', 'no app is running', 'start one: sudo reuse-ctl run -- CMD');
  }

  // How the apps are, each with what leads to it. Who asks while somebody waits for the answer waits with them, so that messages keep their order.
  statuses() {
    this.asked = this.asked || this.look().finally(() => (this.asked = null));
    return this.asked;
  }

  // Of several apps, those that are gone by now or somebody else's are not there.
  async look() {
    const apps = this.known();
    const asked = apps.candidates();
    const answers = await Promise.allSettled(asked.map((target) => this.ask(target, 'GET', '/v1/status')));
    const failed = answers.filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
    if (failed.length > 0 && failed.length === asked.length) {
      const worst = failed.find(({ code }) => code !== 'not_found');
      if (worst || apps.only) throw worst || failed[0];
    }
    const all = [];
    for (const [at, { status, value }] of answers.entries()) {
      if (status === 'fulfilled') all.push({ target: apps.known(asked[at].app), status: value });
    }
    // What is in a list is heard on the bus.
    if (!apps.only) await Promise.allSettled([...this.buses].flatMap((bus) => all.map(({ target }) => bus.join(target))));
    return all;
  }

  async workers() {
    const all = await this.statuses();
    return all.flatMap(({ target, status }) => descriptions(status, target.base));
  }

  async some(which) {
    const all = await this.workers();
    if (which === 'all') return all;
    const named = all.filter((worker) => worker.name === which);
    const found = named.length > 0 || which === '' ? named : all.filter((worker) => worker.pm_id === Number(which));
    if (found.length > 0) return found;
    const names = [...new Set(all.map((worker) => worker.name))];
    const ids = (name) => all.filter((worker) => worker.name === name).map((worker) => worker.pm_id);
    const there = names.map((name) => `${name} (${Math.min(...ids(name))} to ${Math.max(...ids(name))})`);
    throw new ReuseError('not_found', `no worker or app ${which}`, `there are ${there.join(', ') || 'none'}`);
  }

  // The apps of these workers; the one that we are part of comes last, because we may end with it.
  targets(workers) {
    const targets = new Set(workers.map((worker) => this.apps.of(worker.pm_id)));
    const isOwn = (target) => Number(target.app === process.env.REUSE_APP);
    return [...targets].sort((one, other) => isOwn(one) - isOwn(other));
  }

  async replace(which) {
    const meant = await this.some(which);
    if (which === 'all' || which === meant[0].name) {
      for (const target of this.targets(meant)) await this.ask(target, 'POST', '/v1/reload', {});
    } else {
      const { pm_id: id } = meant[0];
      const target = this.apps.of(id);
      await this.ask(target, 'POST', `/v1/workers/${id - target.base}/restart`, {});
    }
    return this.some(which);
  }

  async stopAll(which) {
    const meant = await this.some(which);
    if (which !== 'all' && which !== meant[0].name) {
      const hint = `reuse-ctl drain ${meant[0].reuse.id} takes it out of the choice, reuse-ctl scale -1 makes them fewer`;
      throw new ReuseError('usage', 'stop ends a whole app, not one worker', hint);
    }
    for (const target of this.targets(meant)) await this.ask(target, 'POST', '/v1/stop', {});
    return meant.map((worker) => ({ ...worker, pid: 0, pm2_env: { ...worker.pm2_env, status: 'stopped' } }));
  }

  async send(packet) {
    const has = (name) => packet[name] !== undefined && packet[name] !== null;
    if (typeof packet !== 'object' || packet === null || !has('id') || packet.data === undefined || !packet.topic) {
      throw new ReuseError('usage', 'ID, DATA or TOPIC field is missing', "{ id: 0, type: 'process:msg', topic: 't', data: {…} }");
    }
    if (packet.id === 'all') {
      await this.sendToAll(packet);
    } else {
      const id = Number(packet.id);
      if (!Number.isInteger(id) || id < 0 || packet.id === '') {
        throw new ReuseError('usage', `${JSON.stringify(packet.id)} is not a worker`, 'a worker is named by its number: 0, 1, …');
      }
      const target = await this.targetOf(id);
      await this.ask(target, 'POST', `/v1/workers/${id - target.base}/send`, { message: { ...packet, id } });
    }
    return { success: true, data: packet };
  }

  // Of several apps some may have nobody who takes messages.
  async sendToAll(packet) {
    const targets = this.known().candidates();
    if (targets.length === 0) throw new ReuseError('not_found', 'no app is running');
    const answers = await Promise.allSettled(targets.map((target) => this.ask(target, 'POST', '/v1/send', { message: packet })));
    if (answers.every(({ status }) => status === 'rejected')) throw answers[0].reason;
  }

  // Which app a worker is one of, by its number.
  async targetOf(id) {
    const known = () => this.known().of(id);
    if (!known()) await this.statuses();
    if (!known()) throw new ReuseError('not_found', `no worker ${id}`, 'list() has their numbers');
    return known();
  }

  async openBus() {
    const bus = new Bus(this.known());
    const all = this.apps.only ? [{ target: this.apps.only }] : await this.statuses();
    await bus.open(all.map(({ target }) => target));
    this.buses.add(bus);
    const close = bus.close.bind(bus);
    bus.close = (done) => {
      this.buses.delete(bus);
      close(done);
    };
    return bus;
  }

  known() {
    this.apps = this.apps || new Apps(this.options);
    return this.apps;
  }

  async ask(target, method, route, body) {
    // Of several apps one that hangs must not keep the others waiting. What takes long by its nature has the time that it takes.
    const limitMs = this.known().only || !LOOKS.has(route) ? 0 : LOOK_MS;
    // Messages keep their order: one connection to each app, one request after the other. What takes long has its own.
    if (!route.endsWith('/send')) return ask(target, false, method, route, body, limitMs);
    const { socketPath } = target;
    if (!this.agents.has(socketPath)) this.agents.set(socketPath, new http.Agent({ keepAlive: true, maxSockets: 1 }));
    return ask(target, this.agents.get(socketPath), method, route, body, limitMs);
  }

  hangUp() {
    for (const agent of this.agents.values()) agent.destroy();
    this.agents.clear();
  }
}

for (const [name, hint] of Object.entries(INSTEAD)) {
  Client.prototype[name] = (...given) => {
    const callback = given.reverse().find((one) => typeof one === 'function');
    return settle(Promise.reject(new ReuseError('usage', `${name} is not for apps under reuse-ctl`, hint)), callback);
  };
}

// Those that are PM2's.
Client.methods = [
  'connect',
  'describe',
  'disconnect',
  'getVersion',
  'launchBus',
  'list',
  'reload',
  'restart',
  'sendDataToProcessId',
  'stop',
  ...Object.keys(INSTEAD),
];

module.exports = { Client };
