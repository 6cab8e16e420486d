'use strict';

// PM2's names. Each takes a callback (err, result) in the last place, or gives a promise without one.

const http = require('http');
const { Bus } = require('./bus');
const { descriptions } = require('./describe');
const { ReuseError } = require('./error');
const { ask, find } = require('./socket');

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
    this.options = {};
    this.target = null;
    this.agent = null;
    this.buses = new Set();
  }

  // connect(cb), connect(noDaemon, cb) as with PM2; connect({ app: 'web' }, cb).
  connect(options, callback) {
    if (typeof options === 'function') [options, callback] = [undefined, options];
    this.forget();
    this.options = typeof options === 'object' && options !== null ? options : {};
    return settle(
      this.status().then(() => undefined),
      callback,
    );
  }

  disconnect() {
    for (const bus of this.buses) bus.close();
    this.buses.clear();
    this.forget();
  }

  list(options, callback) {
    if (typeof options === 'function') callback = options;
    return settle(this.status().then(descriptions), callback);
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

  async status() {
    return this.ask('GET', '/v1/status');
  }

  async some(which) {
    const status = await this.status();
    const all = descriptions(status);
    if (which === 'all' || which === status.app) return all;
    const id = Number(which);
    const found = all.filter((worker) => worker.pm_id === id);
    if (which === '' || found.length === 0) {
      throw new ReuseError('not_found', `no worker or app ${which}`, `this is app ${status.app}, with workers 0 to ${all.length - 1}`);
    }
    return found;
  }

  async replace(which) {
    const meant = await this.some(which);
    const isAll = which === 'all' || which === meant[0].name;
    await this.ask('POST', isAll ? '/v1/reload' : `/v1/workers/${meant[0].pm_id}/restart`, {});
    return this.some(which);
  }

  async stopAll(which) {
    const meant = await this.some(which);
    if (which !== 'all' && which !== meant[0].name) {
      const hint = `reuse-ctl drain ${which} takes it out of the choice, reuse-ctl scale -1 makes them fewer`;
      throw new ReuseError('usage', 'stop ends a whole app, not one worker', hint);
    }
    await this.ask('POST', '/v1/stop', {});
    return meant.map((worker) => ({ ...worker, pid: 0, pm2_env: { ...worker.pm2_env, status: 'stopped' } }));
  }

  async send(packet) {
    const has = (name) => packet[name] !== undefined && packet[name] !== null;
    if (typeof packet !== 'object' || packet === null || !has('id') || packet.data === undefined || !packet.topic) {
      throw new ReuseError('usage', 'ID, DATA or TOPIC field is missing', "{ id: 0, type: 'process:msg', topic: 't', data: {…} }");
    }
    if (packet.id === 'all') {
      await this.ask('POST', '/v1/send', { message: packet });
    } else {
      const id = Number(packet.id);
      if (!Number.isInteger(id) || id < 0 || packet.id === '') {
        throw new ReuseError('usage', `${JSON.stringify(packet.id)} is no worker`, 'a worker is named by its number: 0, 1, …');
      }
      await this.ask('POST', `/v1/workers/${id}/send`, { message: { ...packet, id } });
    }
    return { success: true, data: packet };
  }

  async openBus() {
    const target = await this.find();
    const bus = new Bus(target);
    await bus.open();
    this.buses.add(bus);
    const close = bus.close.bind(bus);
    bus.close = (done) => {
      this.buses.delete(bus);
      close(done);
    };
    return bus;
  }

  async find() {
    this.target = this.target || (await find(this.options));
    return this.target;
  }

  async ask(method, route, body) {
    const target = await this.find();
    // Messages keep their order: one connection, one request after the other. What takes long has its own.
    const isMessage = route.endsWith('/send');
    if (isMessage && !this.agent) this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    return ask(target, isMessage ? this.agent : false, method, route, body);
  }

  forget() {
    this.target = null;
    if (this.agent) this.agent.destroy();
    this.agent = null;
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
