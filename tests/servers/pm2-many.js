// Talks to all apps that run: two of two echoing workers each, then a third; then the first ends and comes back.
//   node pm2-many.js PACKAGE FIRST SECOND THIRD
const assert = require('node:assert');
const path = require('node:path');

const [, , folder, first, second, third] = process.argv;
const pm2 = require(path.resolve(folder));

// Resolves when `isSo` gives something, which it is asked again and again.
async function until(what, isSo) {
  for (let left = 600; left > 0; left -= 1) {
    const found = await isSo();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: not after 30 s`);
}

const ids = (workers) => workers.map((worker) => worker.pm_id);
const pids = (workers) => workers.map((worker) => worker.pid);

async function main() {
  await pm2.connect();
  const all = await pm2.list();
  assert.deepStrictEqual(all.map(({ name }) => name), [first, first, second, second]);
  assert.deepStrictEqual(ids(all), [0, 1, 256, 257]);
  assert.deepStrictEqual(all.map(({ pm2_env: { pm_id: id, NODE_APP_INSTANCE: slot } }) => [id, slot]), [[0, 0], [1, 1], [256, 0], [257, 1]]);
  assert.deepStrictEqual(ids(await pm2.describe(second)), [256, 257]);
  assert.deepStrictEqual(pids(await pm2.describe(257)), [all[3].pid]);
  assert.deepStrictEqual(ids(await pm2.describe('all')), ids(all));
  await assert.rejects(pm2.describe(2), new RegExp(`no worker or app 2 .*${first} \\(0 to 1\\), ${second} \\(256 to 257\\)`));

  const bus = await pm2.launchBus();
  const echoes = [];
  const events = [];
  const others = [];
  bus.on('echo', (packet) => echoes.push(packet));
  bus.on('process:event', (packet) => events.push(packet));
  for (const name of ['close', 'connect', 'missed']) bus.on(name, () => others.push(name));

  // Each number is that one's, in the list and on the bus.
  for (const id of ids(all)) await pm2.sendDataToProcessId(id, { topic: 'one', data: id });
  await until('each answers', () => echoes.length >= 4);
  for (const { process: { pm_id: from, name }, data } of echoes) {
    assert.deepStrictEqual([data.id, data.data, name], [from, from, from < 256 ? first : second]);
  }
  assert.deepStrictEqual(echoes.map((packet) => packet.process.pm_id).sort((one, other) => one - other), ids(all));
  echoes.length = 0;
  await pm2.sendDataToProcessId('all', { topic: 'all', data: 1 });
  await until('all answer', () => new Set(echoes.map((packet) => packet.process.pm_id)).size === 4);
  assert.strictEqual((await pm2.sendDataToProcessId(300, { topic: 't', data: 1 }).catch((error) => error)).code, 'not_found');
  assert.strictEqual((await pm2.sendDataToProcessId(2000, { topic: 't', data: 1 }).catch((error) => error)).code, 'not_found');

  // One worker of the second app, then all of the first.
  assert.deepStrictEqual(ids(await pm2.reload(257)), [257]);
  const once = await pm2.list();
  assert.deepStrictEqual(pids(once).map((pid, at) => pid === all[at].pid), [true, true, true, false]);
  assert.deepStrictEqual(ids(await pm2.reload(first)), [0, 1]);
  const twice = await pm2.list();
  assert.deepStrictEqual(pids(twice).map((pid, at) => pid === once[at].pid), [false, false, true, true]);
  await until('the events say so', () => [0, 1, 257].every((id) => events.some((one) => one.event === 'online' && one.process.pm_id === id)));
  assert.ok(!events.some((one) => one.process.pm_id === 256), 'and of no other');

  console.log('start the third');
  await until('the third is heard', () => events.some((one) => one.process.name === third && one.process.pm_id === 512));
  const more = await until('it is in the list', async () => {
    const list = await pm2.list();
    return list.some(({ name, pm2_env: { status } }) => name === third && status === 'online') && list;
  });
  assert.deepStrictEqual(ids(more), [0, 1, 256, 257, 512]);
  echoes.length = 0;
  await pm2.sendDataToProcessId(512, { topic: 'one', data: 512 });
  await until('the third answers', () => echoes.length > 0);
  assert.strictEqual(echoes[0].process.pm_id, 512);

  console.log('stop the first');
  await until('the first is gone', async () => (await pm2.list()).every(({ name }) => name !== first));
  assert.deepStrictEqual(ids(await pm2.list()), [256, 257, 512]);
  assert.strictEqual((await pm2.sendDataToProcessId(0, { topic: 't', data: 1 }).catch((error) => error)).code, 'not_found');
  echoes.length = 0;
  await pm2.sendDataToProcessId(256, { topic: 'one', data: 1 });
  await until('the others answer', () => echoes.length > 0);

  console.log('start the first');
  await until('it has the numbers that it had', async () => {
    const list = await pm2.list();
    return list.length === 5 && list.every(({ pm2_env: { status } }) => status === 'online') && list;
  });
  assert.deepStrictEqual(ids(await pm2.list()), [0, 1, 256, 257, 512]);
  echoes.length = 0;
  await pm2.sendDataToProcessId(1, { topic: 'one', data: 1 });
  await until('it is heard again', () => echoes.length > 0);
  assert.deepStrictEqual(others, [], 'the bus was never without an app');

  // Of one app alone, as before.
  const one = new pm2.Client();
  await one.connect({ app: second });
  assert.deepStrictEqual(ids(await one.list()), [0, 1]);
  assert.strictEqual((await one.describe(256).catch((error) => error)).code, 'not_found');

  assert.deepStrictEqual((await pm2.stop(third)).map(({ pm2_env: { status } }) => status), ['stopped']);
  one.disconnect();
  pm2.disconnect();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
