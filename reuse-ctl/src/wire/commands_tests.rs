//! Valid and invalid bodies as they arrive on the socket.

use super::*;
use crate::base::ErrorKind;
use reuse_common::Policy;

fn worker(verb: WorkerVerb, id: &str, body: &[u8]) -> Result<Command, Failure> {
    super::worker(verb, id, body).map(|asked| asked.command)
}

fn reload(body: &[u8]) -> Result<Command, Failure> {
    super::reload(body).map(|asked| asked.command)
}

#[test]
fn a_new_address_may_be_meant() {
    for (body, expected) in [(&b"{\"new_address\":true}"[..], true), (b"", false)] {
        assert_eq!(super::reload(body).expect("right").new_address, expected);
        let restart = super::worker(WorkerVerb::Restart, "0", body).expect("right");
        assert_eq!(restart.new_address, expected);
    }
}

#[test]
fn scale_targets() {
    for (text, target) in [
        ("4", ScaleTarget::To(4)),
        ("256", ScaleTarget::To(256)),
        ("+2", ScaleTarget::Up(2)),
        ("-1", ScaleTarget::Down(1)),
        ("-0", ScaleTarget::Down(0)),
    ] {
        assert_eq!(scale_target(text), Ok(target), "{text}");
    }
    for text in [
        "", "+", "-", "0", "257", "+257", "four", "++1", "+-1", " 4", "99999999", "4.0",
    ] {
        let refusal = scale_target(text).expect_err(text);
        assert_eq!(refusal.kind, ErrorKind::Usage, "{text}");
    }
}

#[test]
fn empty_bodies_are_defaults_where_all_fields_are_optional() {
    assert_eq!(
        worker(WorkerVerb::Drain, "2", b" \n"),
        Ok(Command::Drain {
            slot: SlotId(2),
            timeout_ms: None,
            no_wait: false,
            force: false
        })
    );
    assert_eq!(
        worker(WorkerVerb::Undrain, "0", b""),
        Ok(Command::Undrain { slot: SlotId(0) })
    );
    assert_eq!(reload(b""), Ok(Command::Reload { stop_first: false }));
    assert_eq!(stop(b""), Ok(Command::Stop { timeout_ms: None }));
    assert_eq!(scale(b"").expect_err("a count is needed").kind, ErrorKind::Usage);
    assert_eq!(policy(b"").expect_err("a name is needed").kind, ErrorKind::Usage);
}

#[test]
fn weights_and_canaries() {
    let share = canary_share("5%").expect("right");
    let weigh = |body: &str| worker(WorkerVerb::Weigh, "3", body.as_bytes());
    assert_eq!(
        weigh(r#"{"weight":"5%"}"#),
        Ok(Command::Weigh {
            slot: SlotId(3),
            share: Some(share)
        })
    );
    assert_eq!(
        weigh(r#"{"weight":"auto"}"#),
        Ok(Command::Weigh {
            slot: SlotId(3),
            share: None
        })
    );
    for body in ["", "{}", r#"{"weight":"10"}"#, r#"{"weight":10}"#, r#"{"weight":"0%"}"#] {
        assert_eq!(weigh(body).expect_err(body).kind, ErrorKind::Usage, "{body}");
    }
    let request = CanaryRequest {
        weight: "5%".into(),
        command: vec!["./server-v2".into(), "-x".into()],
        cwd: Some("/srv".into()),
    };
    let body = serde_json::to_vec(&request).expect("plain data");
    assert_eq!(canary(&body), Ok((share, request)));
    for body in [
        r#"{"weight":"5%","command":[]}"#,
        r#"{"weight":"auto","command":["x"]}"#,
        r#"{"command":["x"]}"#,
        r#"{"weight":"5%","command":["x"],"cwd":"here"}"#,
        r#"{"weight":"5%","command":["a\u0000b"]}"#,
    ] {
        assert_eq!(
            canary(body.as_bytes()).expect_err(body).kind,
            ErrorKind::Usage,
            "{body}"
        );
    }
    assert_eq!((promote(b""), abort(b"{}")), (Ok(Command::Promote), Ok(Command::Abort)));
    assert!(promote(br#"{"weight":"5%"}"#).is_err());
}

#[test]
fn paths_of_requests() {
    let right = get("2", br#"{"path":"/debug?x=1","addr":"127.0.0.1:80","timeout_ms":5}"#);
    let (slot, request) = right.expect("right");
    assert_eq!(
        (slot, request.addr, request.timeout_ms),
        (SlotId(2), "127.0.0.1:80".parse().ok(), Some(5))
    );
    for (path, hint) in [
        ("debug", "did you mean /debug?"),
        ("/a b", "write it with a percent sign: a space is %20"),
        ("/\r\nX: y", "write it with a percent sign: a space is %20"),
        ("/ä", "write it with a percent sign: a space is %20"),
    ] {
        assert_eq!(check_path(path).expect_err(path).hint, hint);
    }
    assert_eq!(
        get("2", br#"{"path":"x"}"#).expect_err("no slash").kind,
        ErrorKind::Usage
    );
    assert_eq!(
        get("x", br#"{"path":"/"}"#).expect_err("no id").kind,
        ErrorKind::NotFound
    );
}

#[test]
fn bodies_are_read_and_strange_ones_refused() {
    assert_eq!(
        worker(
            WorkerVerb::Drain,
            "7",
            br#"{"timeout_ms":1500,"no_wait":true,"force":true}"#
        ),
        Ok(Command::Drain {
            slot: SlotId(7),
            timeout_ms: Some(1500),
            no_wait: true,
            force: true
        })
    );
    assert_eq!(
        reload(br#"{"stop_first":true}"#),
        Ok(Command::Reload { stop_first: true })
    );
    assert_eq!(
        policy(br#"{"policy":"sticky"}"#),
        Ok(Command::SetPolicy(Policy::Sticky))
    );
    for body in ["{", "[]", r#"{"stop-first":true}"#, r#"{"stop_first":1}"#, "null x"] {
        assert_eq!(
            reload(body.as_bytes()).expect_err(body).kind,
            ErrorKind::Usage,
            "{body}"
        );
    }
    let refusal = policy(br#"{"policy":"random"}"#).expect_err("no such policy");
    assert_eq!(refusal.hint, "one of hash, round-robin, least-loaded, sticky");
    for id in ["x", "-1", "70000", ""] {
        assert_eq!(
            worker(WorkerVerb::Undrain, id, b"").expect_err(id).kind,
            ErrorKind::NotFound,
            "{id}"
        );
    }
}
