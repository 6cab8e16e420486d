//! Decides what happens to each worker, and carries it out.
//!
//! The crate `reuse_machine` is the pure machine. `task` is the single owner of all mutable state: it turns events (requests, exits,
//! notices about listeners, time) into the machine's inputs, and carries out its effects. `queue_watch` looks at the accept queues while
//! there are connections, `sockets` looks at everything else at longer intervals. `controller::setup` creates what an app needs before
//! its first worker, and removes it again, whatever happens in between.

pub mod bus;
pub mod handle;

pub(crate) mod all_failed;
pub(crate) mod announcer;
pub(crate) mod apply;
pub(crate) mod apply_words;
pub(crate) mod asks;
pub(crate) mod cadence;
pub(crate) mod console;
pub(crate) mod diagnosis;
pub(crate) mod directed;
pub(crate) mod faults;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod left_out;
pub(crate) mod listener_owners;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod lookups;
pub(crate) mod messages;
pub(crate) mod moves;
pub(crate) mod new_address;
pub(crate) mod new_instance;
pub(crate) mod placement;
pub(crate) mod ports;
pub(crate) mod preparing;
pub(crate) mod queue_watch;
pub(crate) mod quiesce;
pub(crate) mod readiness;
pub(crate) mod ready_notify;
pub(crate) mod recycle;
pub(crate) mod recycle_files;
pub(crate) mod recycle_rules;
pub(crate) mod recycle_words;
pub(crate) mod service_manager;
pub(crate) mod signals;
pub(crate) mod sockets;
pub(crate) mod status;
pub(crate) mod stop_signal;
pub(crate) mod task;
pub(crate) mod template;
pub(crate) mod terminal;
pub(crate) mod wanted;
pub(crate) mod worker_http;
