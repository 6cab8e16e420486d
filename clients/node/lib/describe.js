'use strict';

// A worker's status in the words of PM2.

const STATES = {
  starting: 'launching',
  active: 'online',
  // They live and take messages; only new connections go elsewhere.
  draining: 'online',
  drained: 'online',
  stopping: 'stopping',
  backing_off: 'waiting restart',
  failed: 'errored',
  exited: 'stopped',
};

function description(app, worker, workers, base) {
  const startedMs = Date.now() - worker.uptime_s * 1000;
  return {
    pid: worker.pid || 0,
    name: app,
    pm_id: base + worker.id,
    monit: { memory: worker.memory_bytes, cpu: Math.round(worker.cpu_percent * 10) / 10 },
    pm2_env: {
      name: app,
      namespace: 'default',
      pm_id: base + worker.id,
      NODE_APP_INSTANCE: worker.id,
      exec_mode: 'cluster_mode',
      instances: workers,
      status: STATES[worker.state] || worker.state,
      restart_time: worker.restarts,
      unstable_restarts: 0,
      pm_uptime: startedMs,
      created_at: startedMs,
    },
    reuse: worker,
  };
}

// `base` is before the numbers of this app's workers.
const descriptions = (status, base) => status.workers.map((worker) => description(status.app, worker, status.workers.length, base));

module.exports = { descriptions };
