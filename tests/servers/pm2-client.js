// Tries everything that the client package has, against a running app of three echoing workers. Says "ok" at its end.
//   REUSE_APP=APP node pm2-client.js PACKAGE
const assert = require('node:assert');
const path = require('node:path');

const pm2 = require(path.resolve(process.argv[2]));
const failing = async (promise) => promise.then(() => assert.fail('it should fail'), (error) => error);
const called = (start) => new Promise((resolve, reject) => start((error, result) => (error ? reject(error) : resolve(result))));

// The first packet of that name that `isMeant`, or an error after five seconds.
function heard(bus, name, isMeant = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} after 5 s`)), 5000);
    const handler = (packet) => {
      if (!isMeant(packet)) return;
      clearTimeout(timer);
      bus.off(name, handler);
      resolve(packet);
    };
    bus.on(name, handler);
  });
}

async function main() {
  await called((done) => pm2.connect(done));
  await pm2.connect();

  const list = await called((done) => pm2.list(done));
  assert.deepStrictEqual(list.map((worker) => worker.pm_id), [0, 1, 2]);
  for (const worker of list) {
    assert.strictEqual(worker.name, process.env.REUSE_APP);
    assert.strictEqual(worker.pm2_env.status, 'online');
    assert.ok(worker.pid > 0 && worker.monit.memory > 0 && worker.monit.cpu >= 0);
    assert.ok(Math.abs(Date.now() - worker.pm2_env.pm_uptime) < 600000);
    assert.strictEqual(worker.pm2_env.restart_time, 0);
  }
  assert.strictEqual((await pm2.describe(1))[0].pm_id, 1);
  assert.strictEqual((await pm2.describe('all')).length, 3);
  assert.strictEqual((await pm2.describe(process.env.REUSE_APP)).length, 3);
  assert.strictEqual((await failing(pm2.describe(9))).code, 'not_found');

  const bus = await called((done) => pm2.launchBus(done));
  const topics = [];
  bus.on('*', (name) => topics.push(name));

  // (id, packet, callback), and what comes back by its own name.
  let answer = heard(bus, 'echo', ({ process: { pm_id: id } }) => id === 1);
  const packet = { type: 'process:msg', topic: 'one', data: { n: 1, text: 'ünï\u2028"' } };
  const sent = await called((done) => pm2.sendDataToProcessId(1, packet, done));
  assert.strictEqual(sent.success, true);
  let { data, at, process: from } = await answer;
  assert.deepStrictEqual(data, { ...packet, id: 1 });
  assert.ok(Math.abs(Date.now() - at) < 60000);
  assert.strictEqual(from.name, process.env.REUSE_APP);

  // (packet, callback), and a promise.
  answer = heard(bus, 'echo', ({ process: { pm_id: id } }) => id === 2);
  await pm2.sendDataToProcessId({ id: 2, type: 'process:msg', topic: 'two', data: 0 });
  ({ data } = await answer);
  assert.strictEqual(data.topic, 'two');

  // To all.
  const answers = Promise.all([0, 1, 2].map((id) => heard(bus, 'echo', ({ data: { topic }, process: { pm_id: of } }) => topic === 'all' && of === id)));
  await pm2.sendDataToProcessId({ id: 'all', type: 'process:msg', topic: 'all', data: {} });
  assert.strictEqual((await answers).length, 3);

  // What has no type is raw.
  answer = heard(bus, 'process:msg');
  await pm2.sendDataToProcessId(0, { topic: 'raw', data: 'as it is' });
  assert.deepStrictEqual((await answer).raw, ['as it is']);

  // Many, in their order.
  const numbers = [];
  const all = heard(bus, 'echo', ({ data: { topic, data: number } }) => {
    if (topic === 'order') numbers.push(number);
    return number === 199;
  });
  await Promise.all(Array.from({ length: 200 }, (_, number) => pm2.sendDataToProcessId(0, { topic: 'order', data: number })));
  await all;
  assert.deepStrictEqual(numbers, Array.from({ length: 200 }, (_, number) => number));

  // A worker has the package, too.
  answer = heard(bus, 'echo', ({ process: { pm_id: id }, data: { topic } }) => id === 2 && topic === 'from a worker');
  await pm2.sendDataToProcessId(0, { topic: 'pass on', data: { to: 2, package: path.resolve(process.argv[2]) } });
  await answer;

  assert.ok(topics.includes('echo') && topics.includes('process:msg'), String(topics));

  assert.match((await failing(pm2.sendDataToProcessId(1, { data: 1 }))).message, /TOPIC field is missing/);
  assert.strictEqual((await failing(pm2.sendDataToProcessId(9, packet))).code, 'not_found');
  for (const name of ['start', 'delete', 'dump', 'sendSignalToProcessName']) {
    const error = await failing(called((done) => pm2[name]('web', done)));
    assert.ok(error.hint.length > 10, name);
  }

  // One worker, then all; the events say so.
  const pids = (workers) => workers.map((worker) => worker.pid);
  const event = heard(bus, 'process:event', (packet) => packet.event === 'online' && packet.process.pm_id === 0);
  const one = await called((done) => pm2.restart(0, done));
  assert.ok(one.length === 1 && one[0].pid !== list[0].pid && one[0].pm2_env.restart_time === 1);
  await event;
  const reloaded = await pm2.reload('all');
  assert.ok(pids(reloaded).every((pid, at) => pid !== pids(list)[at]), `${pids(list)} then ${pids(reloaded)}`);

  assert.match(await pm2.getVersion(), /^\d+\.\d+\.\d+$/);
  assert.strictEqual((await failing(pm2.stop(1))).code, 'usage');
  bus.close();
  pm2.disconnect();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
