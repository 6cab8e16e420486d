/** What can go wrong. `message` says what to do as well. */
export class ReuseError extends Error {
  /** `unreachable`: there was no answer; the others are the controller's. */
  readonly code: 'failed' | 'usage' | 'not_found' | 'timeout' | 'unreachable';
  /** What to do, or nothing. */
  readonly hint: string;
}

export type ProcessStatus = 'online' | 'launching' | 'stopping' | 'stopped' | 'waiting restart' | 'errored';

/** A worker. */
export interface ProcessDescription {
  /** 0 when none runs. */
  pid: number;
  /** The app's name. */
  name: string;
  /**
   * The worker's number in this client: 0, 1, … in one app; where there are several, behind a base that its app has, a multiple of 256, which is 0 for the app
   * that this process belongs to. No two have the same.
   */
  pm_id: number;
  monit: {
    /** Bytes. */
    memory: number;
    /** Percent of one processor. */
    cpu: number;
  };
  pm2_env: {
    name: string;
    namespace: string;
    pm_id: number;
    /** The worker's number in its app. */
    NODE_APP_INSTANCE: number;
    exec_mode: string;
    /** How many workers the app has. */
    instances: number;
    status: ProcessStatus;
    restart_time: number;
    unstable_restarts: number;
    /** When it was started, in milliseconds since 1970. */
    pm_uptime: number;
    created_at: number;
  };
  /** Its row of `reuse-ctl status --json`: state, connections, queue, … */
  reuse: Record<string, unknown>;
}

/** To a worker, by the number that `list` has. It arrives as it is: `process.on('message', packet => …)`. */
export interface Packet {
  /** The worker's number, or every worker of every app. */
  id?: number | string | 'all';
  type?: string;
  topic: string | boolean;
  data: unknown;
  [more: string]: unknown;
}

export interface SendResult {
  success: true;
  data: Packet;
}

/** From a worker, or about one: `pm_id` is as in `list`. */
export interface BusPacket {
  /** In milliseconds since 1970. */
  at: number;
  process: { pm_id: number; name: string; namespace?: string; [more: string]: unknown };
  /** Of a message `{ type, data }`, which is the event `type`; of a line of a log. */
  data?: any;
  /** Of any other message, which is the event `process:msg`. */
  raw?: any;
  /** Of `process:event`: online, start, restart, exit, stop, delete. */
  event?: string;
  [more: string]: any;
}

export interface Bus {
  /**
   * `process:event`, `process:msg`, `log:out`, `log:err`, or the `type` that a worker gave its message. What stars in the name stand for comes
   * before the packet: `bus.on('log:*', (which, packet) => …)`, `bus.on('*', (event, packet) => …)`.
   */
  on(event: string, handler: (...given: any[]) => void): this;
  on(event: string, handler: (packet: BusPacket) => void): this;
  once(event: string, handler: (...given: any[]) => void): this;
  off(event: string, handler?: (...given: any[]) => void): this;
  addListener(event: string, handler: (...given: any[]) => void): this;
  removeListener(event: string, handler?: (...given: any[]) => void): this;
  removeAllListeners(event?: string): this;
  close(done?: () => void): void;
}

export interface ConnectOptions {
  /** The name of the only app to talk to. [default: all that this process may reach, those that start later too] */
  app?: string;
  /** Its control socket, where that is not /run/reuse-ctl/APP/control.sock. */
  socket?: string;
}

export type ErrCallback = (err: ReuseError | null) => void;
export type Callback<Result> = (err: ReuseError | null, result: Result) => void;

/** A worker's number, an app's name, or all workers of all apps. */
export type Which = number | string | 'all';

/** For programs that talk to apps in several ways. The functions of the module are those of one such client. */
export class Client {
  connect(options?: ConnectOptions | boolean): Promise<void>;
  connect(callback: ErrCallback): void;
  connect(options: ConnectOptions | boolean, callback: ErrCallback): void;
  /** Ends buses and connections; the program can end. */
  disconnect(): void;

  list(): Promise<ProcessDescription[]>;
  list(callback: Callback<ProcessDescription[]>): void;
  describe(which: Which): Promise<ProcessDescription[]>;
  describe(which: Which, callback: Callback<ProcessDescription[]>): void;

  /** New processes are ready before old ones end; stops at the first that fails. */
  reload(which: Which, options?: object): Promise<ProcessDescription[]>;
  reload(which: Which, callback: Callback<ProcessDescription[]>): void;
  reload(which: Which, options: object, callback: Callback<ProcessDescription[]>): void;
  restart(which: Which, options?: object): Promise<ProcessDescription[]>;
  restart(which: Which, callback: Callback<ProcessDescription[]>): void;
  restart(which: Which, options: object, callback: Callback<ProcessDescription[]>): void;
  /** Ends a whole app, or all. */
  stop(which: Which): Promise<ProcessDescription[]>;
  stop(which: Which, callback: Callback<ProcessDescription[]>): void;

  sendDataToProcessId(packet: Packet): Promise<SendResult>;
  sendDataToProcessId(packet: Packet, callback: Callback<SendResult>): void;
  sendDataToProcessId(id: number | string, packet: Packet): Promise<SendResult>;
  sendDataToProcessId(id: number | string, packet: Packet, callback: Callback<SendResult>): void;

  launchBus(): Promise<Bus>;
  launchBus(callback: Callback<Bus>): void;

  getVersion(): Promise<string>;
  getVersion(callback: Callback<string>): void;

  /** Not for apps under reuse-ctl: each fails, and says what to do instead. */
  start(...given: any[]): any;
  delete(...given: any[]): any;
  dump(...given: any[]): any;
  startup(...given: any[]): any;
  flush(...given: any[]): any;
  reloadLogs(...given: any[]): any;
  killDaemon(...given: any[]): any;
  launchSysMonitoring(...given: any[]): any;
  sendSignalToProcessName(...given: any[]): any;
  sendSignalToProcessId(...given: any[]): any;
}

export const connect: Client['connect'];
export const disconnect: Client['disconnect'];
export const list: Client['list'];
export const describe: Client['describe'];
export const reload: Client['reload'];
export const restart: Client['restart'];
export const stop: Client['stop'];
export const sendDataToProcessId: Client['sendDataToProcessId'];
export const launchBus: Client['launchBus'];
export const getVersion: Client['getVersion'];
export const start: Client['start'];
export const dump: Client['dump'];
export const startup: Client['startup'];
export const flush: Client['flush'];
export const reloadLogs: Client['reloadLogs'];
export const killDaemon: Client['killDaemon'];
export const launchSysMonitoring: Client['launchSysMonitoring'];
export const sendSignalToProcessName: Client['sendSignalToProcessName'];
export const sendSignalToProcessId: Client['sendSignalToProcessId'];
declare const remove: Client['delete'];
export { remove as delete };

declare const reuse: {
  Client: typeof Client;
  ReuseError: typeof ReuseError;
} & Pick<
  Client,
  | 'connect'
  | 'delete'
  | 'describe'
  | 'disconnect'
  | 'dump'
  | 'flush'
  | 'getVersion'
  | 'killDaemon'
  | 'launchBus'
  | 'launchSysMonitoring'
  | 'list'
  | 'reload'
  | 'reloadLogs'
  | 'restart'
  | 'sendDataToProcessId'
  | 'sendSignalToProcessId'
  | 'sendSignalToProcessName'
  | 'start'
  | 'startup'
  | 'stop'
>;
export default reuse;
