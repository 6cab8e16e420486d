//! What a new instance needs before its process is launched: a cgroup, its variables, a notify socket where it is to have one, and a row.

use super::{
    live::{BackgroundEvent, Live, Process},
    ready_notify::NotifySocket,
    stop_signal::Signalled,
    template::Template,
};
use crate::{
    app::options::ReadyKind,
    base::{InstanceId, SlotId, VersionId},
    group::Groups,
    process::{cgroup::InstanceCgroup, channel::Channel, launch::LaunchSpec, logs},
};
use reuse_common::ids::Row;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewInstance {
    pub(crate) slot: SlotId,
    pub(crate) id: InstanceId,
    pub(crate) version: VersionId,
    /// Whether somebody has said that it may listen elsewhere than those before it.
    pub(crate) may_move: bool,
}

impl NewInstance {
    /// Makes all that, and says how to launch it.
    ///
    /// # Errors
    /// In words, what could not be made. Nothing is left of it then.
    pub(crate) fn prepare(
        self,
        channel: Channel,
        template: &Template,
        groups: &mut Groups,
        background_events: &mpsc::Sender<BackgroundEvent>,
    ) -> Result<(Live, LaunchSpec), String> {
        let Self {
            slot,
            id,
            version,
            may_move,
        } = self;
        let cgroup = template.cgroup.instance(slot, id).map_err(|error| error.to_string())?;
        let cgroup = Arc::new(cgroup);
        let prepared = self.prepare_in(&cgroup, template, groups, background_events);
        let (row, spec, notify) = prepared.inspect_err(|_| {
            // Nothing was started in it.
            drop(cgroup.remove());
        })?;
        let (log, err_log) = (template.paths.log_file(slot), template.paths.err_log_file(slot));
        let live = Live {
            slot,
            version,
            row,
            cgroup,
            process: Process::Launching,
            signalled: Signalled::default(),
            channel,
            log_start: logs::len(&log),
            log,
            err_log_start: logs::len(&err_log),
            err_log,
            binds: Vec::new(),
            accepted: Vec::new(),
            told: template.told(&spec, version),
            may_move,
            problem: None,
            told_to_end: Arc::default(),
            announced_ready: false,
            listens: false,
            status_text: None,
            _notify: notify,
            ready: false,
            was_ready: false,
            was_published: false,
            unsettled_move: None,
        };
        Ok((live, spec))
    }

    /// What is needed of it beside its cgroup; the row comes last, because it would have to be given back.
    fn prepare_in(
        self,
        cgroup: &Arc<InstanceCgroup>,
        template: &Template,
        groups: &mut Groups,
        background_events: &mpsc::Sender<BackgroundEvent>,
    ) -> Result<(Row, LaunchSpec, Option<NotifySocket>), String> {
        let options = template.options(self.version);
        cgroup.limit(&options.limits).map_err(|error| error.to_string())?;
        let spec = template.launch_spec(self.slot, self.version, cgroup);
        let mut spec = spec.map_err(|error| error.to_string())?;
        let notify = match options.ready.kind {
            ReadyKind::Notify => Some(self.open_notify(cgroup, template, background_events)?),
            ReadyKind::Listener | ReadyKind::Ipc | ReadyKind::Started | ReadyKind::Http(_) => None,
        };
        if let Some(notify) = &notify {
            spec.variables.push(("NOTIFY_SOCKET".into(), notify.path().into()));
        }
        let row = groups.register(self.slot, cgroup).map_err(|error| error.to_string())?;
        Ok((row, spec, notify))
    }

    fn open_notify(
        self,
        cgroup: &Arc<InstanceCgroup>,
        template: &Template,
        background_events: &mpsc::Sender<BackgroundEvent>,
    ) -> Result<NotifySocket, String> {
        let path = template.paths.notify_socket(self.slot, self.id);
        let owner = (template.identity.uid, template.identity.gid);
        NotifySocket::open(&path, owner, self.id, Arc::clone(cgroup), background_events.clone())
            .map_err(|error| format!("its notify socket {}: {error}", path.display()))
    }
}
