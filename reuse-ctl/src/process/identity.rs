//! The user that workers run as, and the owner of the control socket.
//!
//! All members of a group must have the same uid, so this is decided once, when the controller starts.

use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};

/// Why no user could be determined.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The name or number is not in the user database.
    #[error("there is no user {0:?}")]
    UnknownUser(String),
    /// The user database could not be read.
    #[error("looking up user {user:?}: {source}")]
    Lookup {
        /// The user that was looked up.
        user: String,
        /// The error of getpwnam_r, getpwuid_r or getgrouplist.
        source: nix::errno::Errno,
    },
}

impl IdentityError {
    /// What the user should do next, in one line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownUser(_) => "give --user a name or number that `getent passwd` knows",
            Self::Lookup { .. } => "try the user's number instead of the name",
        }
    }
}

/// Why this user was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentitySource {
    /// Given by `--user`.
    Option,
    /// The user who called sudo.
    Sudo,
    /// The user that the controller runs as.
    Current,
}

/// The user that workers run as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The effective, real and saved uid of every worker.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// The login name, or the uid if there is none.
    pub name: String,
    /// The home directory.
    pub home: PathBuf,
    /// Why this user was chosen.
    pub source: IdentitySource,
}

impl Identity {
    /// The user given by `--user`, else the one who called sudo, else the one that the controller runs as.
    ///
    /// # Errors
    /// The user is unknown, or the user database can't be read.
    pub fn resolve(user: Option<&str>) -> Result<Self, IdentityError> {
        Self::decide(user, |name| std::env::var(name).ok())
    }

    /// As [`Self::resolve`], with the environment as an argument.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn decide(user: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, IdentityError> {
        if let Some(user) = user {
            return Self::of(&look_up(user)?, IdentitySource::Option);
        }
        match sudo_caller(variable) {
            Some(caller) => Self::of(&look_up(&caller.uid.to_string())?, IdentitySource::Sudo),
            None => Self::current(),
        }
    }

    /// Whether workers run as root, which deserves a warning.
    pub fn runs_as_root(&self) -> bool {
        self.uid == 0
    }

    fn of(user: &User, source: IdentitySource) -> Result<Self, IdentityError> {
        let lookup_failed = |source| IdentityError::Lookup {
            user: user.name.clone(),
            source,
        };
        let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| lookup_failed(nix::errno::Errno::EINVAL))?;
        let groups = nix::unistd::getgrouplist(&name, user.gid).map_err(lookup_failed)?;
        Ok(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: user.name.clone(),
            home: user.dir.clone(),
            source,
        })
    }

    /// A container may run with a uid that is in no user database: that is no error.
    fn current() -> Result<Self, IdentityError> {
        let uid = Uid::effective();
        match look_up(&uid.to_string()) {
            Ok(user) => Self::of(&user, IdentitySource::Current),
            Err(IdentityError::UnknownUser(name)) => {
                let groups = nix::unistd::getgroups()
                    .map_err(|source| IdentityError::Lookup {
                        user: name.clone(),
                        source,
                    })?
                    .into_iter()
                    .map(Gid::as_raw)
                    .collect();
                let gid = Gid::effective().as_raw();
                Ok(Self {
                    uid: uid.as_raw(),
                    gid,
                    groups,
                    name,
                    home: PathBuf::from("/"),
                    source: IdentitySource::Current,
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// The owner of the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The uid of the user.
    pub uid: u32,
    /// The primary gid of the user.
    pub gid: u32,
}

/// The user who called sudo, else the one who runs this program. They may use the controller without sudo.
pub fn owner() -> Owner {
    owner_by(|name| std::env::var(name).ok())
}

/// The gid of a group by name or number (`--control-group`); `None` if there is no such group.
pub fn group_id(group: &str) -> Option<u32> {
    match group.parse::<u32>() {
        Ok(gid) => Some(gid),
        Err(_) => Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw()),
    }
}

/// The home of the user who called sudo, else of the one who runs this program. User-installed commands are there.
pub fn caller_home() -> Option<PathBuf> {
    let caller = sudo_caller(|name| std::env::var(name).ok());
    let uid = caller.map_or_else(Uid::effective, |caller| Uid::from_raw(caller.uid));
    User::from_uid(uid).ok().flatten().map(|user| user.dir)
}

fn owner_by(variable: impl Fn(&str) -> Option<String>) -> Owner {
    sudo_caller(variable).unwrap_or_else(|| Owner {
        uid: Uid::effective().as_raw(),
        gid: Gid::effective().as_raw(),
    })
}

/// Only root trusts these variables, because anyone can set them.
fn sudo_caller(variable: impl Fn(&str) -> Option<String>) -> Option<Owner> {
    let uid: u32 = variable("SUDO_UID")?.parse().ok()?;
    let gid: u32 = variable("SUDO_GID").and_then(|gid| gid.parse().ok()).unwrap_or(uid);
    (uid != 0 && Uid::effective().is_root()).then_some(Owner { uid, gid })
}

fn look_up(user: &str) -> Result<User, IdentityError> {
    let failed = |source| IdentityError::Lookup {
        user: user.to_owned(),
        source,
    };
    // Some containers have no user database at all.
    let known = |answer| match answer {
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        answer => answer.map_err(failed),
    };
    // A name of digits only is looked up as a name first, as in chown(1).
    if let Some(found) = known(User::from_name(user))? {
        return Ok(found);
    }
    let by_number = match user.parse::<u32>() {
        Ok(uid) => known(User::from_uid(Uid::from_raw(uid)))?,
        Err(_) => None,
    };
    by_number.ok_or_else(|| IdentityError::UnknownUser(user.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: u32 = 65534;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn sudo_by_nobody(name: &str) -> Option<String> {
        match name {
            "SUDO_UID" | "SUDO_GID" => Some(NOBODY.to_string()),
            "SUDO_USER" => Some("nobody".into()),
            _ => None,
        }
    }

    #[test]
    fn the_option_wins_by_name_and_by_number() {
        for user in ["nobody", "65534"] {
            let identity = Identity::decide(Some(user), sudo_by_nobody).expect("known");
            assert_eq!((identity.uid, identity.name.as_str()), (NOBODY, "nobody"));
            assert_eq!(identity.source, IdentitySource::Option);
            assert!(identity.groups.contains(&identity.gid) && !identity.runs_as_root());
        }
        let root = Identity::decide(Some("root"), sudo_by_nobody).expect("known");
        assert!(root.runs_as_root());
    }

    #[test]
    fn then_the_caller_of_sudo_then_the_current_user() {
        let identity = Identity::decide(None, sudo_by_nobody).expect("known");
        assert_eq!((identity.uid, identity.source), (NOBODY, IdentitySource::Sudo));
        let identity = Identity::decide(None, nothing).expect("known");
        assert_eq!((identity.uid, identity.source), (0, IdentitySource::Current));
        assert_eq!(identity.home, PathBuf::from("/root"));
        // root who called sudo is simply root
        let by_root = |name: &str| (name == "SUDO_UID").then(|| "0".to_owned());
        assert_eq!(
            Identity::decide(None, by_root).expect("known").source,
            IdentitySource::Current
        );
    }

    #[test]
    fn the_socket_is_the_callers() {
        assert_eq!(
            owner_by(sudo_by_nobody),
            Owner {
                uid: NOBODY,
                gid: NOBODY
            }
        );
        assert_eq!(owner_by(nothing), Owner { uid: 0, gid: 0 });
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("17"), Some(17));
        assert_eq!(group_id("no-such-group"), None);
    }

    #[test]
    fn an_unknown_user_is_named() {
        let error = Identity::decide(Some("no-such-user"), nothing).expect_err("unknown");
        assert_eq!(error, IdentityError::UnknownUser("no-such-user".into()));
        assert!(error.to_string().contains("no-such-user") && error.hint().contains("--user"));
        assert!(Identity::decide(Some("4000000"), nothing).is_err());
    }
}
