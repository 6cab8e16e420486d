import reuse from './index.js';

export default reuse;

export const {
  Client,
  ReuseError,
  connect,
  delete: delete_,
  describe,
  disconnect,
  dump,
  flush,
  getVersion,
  killDaemon,
  launchBus,
  launchSysMonitoring,
  list,
  reload,
  reloadLogs,
  restart,
  sendDataToProcessId,
  sendSignalToProcessId,
  sendSignalToProcessName,
  start,
  startup,
  stop,
} = reuse;
export { delete_ as delete };
