//! Tests server and client over a real Unix socket, with a supervisor that answers from a script.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hyper::Method;
use reuse_common::{Policy, Share};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::fake::{App, Folder, bind_private, status};
use crate::{
    base::{ErrorKind, SlotId},
    client::{Client, ClientError},
    wire::{CanaryRequest, DrainRequest, Event, GetRequest, Got, Reply},
};
use reuse_machine::interface::{Command, ScaleTarget};

/// Longer than any answer in these tests takes.
const LONG: Duration = Duration::from_secs(5);

fn done(_: &Command) -> std::future::Ready<Reply> {
    std::future::ready(Reply {
        ok: true,
        message: Some("done".into()),
        ..Reply::default()
    })
}

#[tokio::test]
async fn every_route_reaches_the_supervisor() {
    let app = App::start("routes", done);
    let client = Client::connect(&app.socket()).await.expect("it listens");
    assert_eq!(client.status().await.expect("status"), status());
    let requests = [
        (
            Method::POST,
            "/v1/workers/2/drain",
            json!({"timeout_ms": 1500, "no_wait": true}),
        ),
        (Method::POST, "/v1/workers/2/undrain", json!({})),
        (Method::POST, "/v1/workers/1/restart", json!({"stop_first": true})),
        (Method::POST, "/v1/reload", json!({"stop_first": true})),
        (Method::PUT, "/v1/workers", json!({"workers": "+2"})),
        (Method::PUT, "/v1/policy", json!({"policy": "hash"})),
        (Method::PUT, "/v1/workers/3/weight", json!({"weight": "12.5%"})),
        (Method::PUT, "/v1/workers/3/weight", json!({"weight": "auto"})),
        (Method::POST, "/v1/canary/promote", json!({})),
        (Method::POST, "/v1/canary/abort", json!({})),
        (Method::POST, "/v1/stop", json!({"timeout_ms": 10})),
    ];
    for (method, path, body) in requests {
        let reply = client.command(method, path, &body).await.expect(path);
        assert_eq!((reply.ok, reply.message.as_deref()), (true, Some("done")), "{path}");
    }
    assert_eq!(
        app.asked(),
        [
            Command::Drain {
                slot: SlotId(2),
                timeout_ms: Some(1500),
                no_wait: true,
                force: false
            },
            Command::Undrain { slot: SlotId(2) },
            Command::Restart {
                slot: SlotId(1),
                stop_first: true
            },
            Command::Reload { stop_first: true },
            Command::Scale(ScaleTarget::Up(2)),
            Command::SetPolicy(Policy::Hash),
            Command::Weigh {
                slot: SlotId(3),
                share: Share::from_hundredths_of_a_percent(1250)
            },
            Command::Weigh {
                slot: SlotId(3),
                share: None
            },
            Command::Promote,
            Command::Abort,
            Command::Stop { timeout_ms: Some(10) },
        ]
    );
}

#[tokio::test]
async fn a_canary_is_asked_for_by_the_owner() {
    let app = App::start("canary", done);
    let client = Client::connect(&app.socket()).await.expect("it listens");
    let request = CanaryRequest {
        weight: "5%".into(),
        command: vec!["./server-v2".into()],
        cwd: Some("/srv".into()),
    };
    let reply = client
        .command(Method::POST, "/v1/canary", &request)
        .await
        .expect("a reply");
    assert_eq!((reply.ok, &*reply.workers), (true, &[3][..]));
    let share = Share::from_hundredths_of_a_percent(500).expect("in range");
    assert_eq!(*app.canaries.lock().expect("no panic"), [(share, request)]);
    let (status, reply) = raw(&app, "POST /v1/canary", r#"{"weight":"5%","command":[]}"#).await;
    assert_eq!((status, reply["kind"].as_str()), (400, Some("usage")));
}

#[tokio::test]
async fn a_workers_answer_is_passed_on_as_it_is() {
    let app = App::start("get", done);
    let client = Client::connect(&app.socket()).await.expect("it listens");
    let get = async |id, path: &str| {
        let request = GetRequest {
            path: path.into(),
            addr: None,
            timeout_ms: None,
        };
        client.get(id, &request).await
    };
    for path in ["/bytes", "/nothing", "/else"] {
        let request = GetRequest {
            path: path.into(),
            addr: None,
            timeout_ms: None,
        };
        let expected: Got = super::fake::got(SlotId(2), &request).expect("worker 2 answers");
        assert_eq!(get(2, path).await.expect(path), expected);
    }
    for (id, path, kind) in [
        (1, "/", ErrorKind::Timeout),
        (2, "/strange", ErrorKind::Failed),
        (2, "x", ErrorKind::Usage),
    ] {
        match get(id, path).await {
            Err(ClientError::Refusal(reply)) => assert_eq!(reply.kind, Some(kind), "{id} {path}"),
            other => panic!("{id} {path}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_curl_sees() {
    let app = App::start("curl", |_: &Command| {
        let refusal = Reply {
            kind: Some(ErrorKind::Timeout),
            error: Some("3 left".into()),
            ..Reply::default()
        };
        std::future::ready(refusal)
    });
    for (request, body, expected_status, kind) in [
        ("POST /v1/workers/0/drain", "", 504, "timeout"),
        ("POST /v1/reload", "{", 400, "usage"),
        ("PUT /v1/workers", r#"{"workers":"0"}"#, 400, "usage"),
        ("POST /v1/workers/x/drain", "", 404, "not_found"),
        ("GET /v2/status", "", 404, "not_found"),
        ("GET /", "", 404, "not_found"),
        ("GET /v1/reload", "", 405, "usage"),
        ("POST /v1/status", "", 405, "usage"),
        ("POST /v1/workers/0/weight", r#"{"weight":"5%"}"#, 405, "usage"),
        ("PUT /v1/workers/0/weight", r#"{"weight":"5"}"#, 400, "usage"),
        ("PUT /v1/workers/x/weight", r#"{"weight":"5%"}"#, 404, "not_found"),
        ("POST /v1/workers/0/get", r#"{"path":"x"}"#, 400, "usage"),
        ("POST /v1/workers/0/get", r#"{"path":"/"}"#, 504, "timeout"),
        ("POST /v1/canary/promote", "{", 400, "usage"),
        ("POST /v1/stop", &"x".repeat(100_000), 400, "usage"),
    ] {
        let (status, reply) = raw(&app, request, body).await;
        assert_eq!(
            (status, reply["ok"].as_bool(), reply["kind"].as_str()),
            (expected_status, Some(false), Some(kind)),
            "{request}"
        );
        assert!(reply["error"].is_string(), "{request}: {reply}");
    }
    let (status, description) = raw(&app, "GET /v1/openapi.json", "").await;
    assert_eq!((status, description["openapi"].as_str()), (200, Some("3.1.1")));
    let (status, body) = raw(&app, "GET /v1/status", "").await;
    assert_eq!((status, body["workers"][1]["state"].as_str()), (200, Some("draining")));
    assert_eq!(app.asked().len(), 1, "only the well-formed request was passed on");
}

#[tokio::test]
async fn a_supervisor_that_is_gone_is_said() {
    let app = App::start("gone", done);
    app.supervisor.abort();
    assert!(app.supervisor.await.expect_err("aborted").is_cancelled());
    let client = Client::connect(&app.folder.0.join("control.sock"))
        .await
        .expect("the server is still there");
    let reply = client
        .command(Method::POST, "/v1/reload", &json!({}))
        .await
        .expect("a reply");
    assert_eq!(
        (reply.kind, reply.error.as_deref()),
        (Some(ErrorKind::Failed), Some("the app is stopping"))
    );
    let Err(ClientError::Refusal(reply)) = client.status().await else {
        panic!("status has nothing to show")
    };
    assert_eq!(reply.error.as_deref(), Some("the app is stopping"));
}

#[tokio::test]
async fn events_arrive_and_end_with_the_app() {
    let app = App::start("events", done);
    let client = Client::connect(&app.socket()).await.expect("it listens");
    let mut events = client.events().await.expect("a stream");
    let sent = Event {
        at_ms: 1,
        worker: Some(2),
        pid: Some(77),
        event: "drained".into(),
        message: "worker 2\nis drained".into(),
    };
    app.events.send(sent.clone()).expect("one reader");
    assert_eq!(events.next().await.expect("an event").expect("well-formed"), sent);
    app.events.send(sent.clone()).expect("one reader");
    app.shutdown.send(()).expect("it runs");
    assert_eq!(
        events.next().await.expect("said before the end").expect("well-formed"),
        sent
    );
    assert!(events.next().await.is_none());
    tokio::time::timeout(LONG, app.server)
        .await
        .expect("no reader holds it up")
        .expect("no panic")
        .expect("no error");
    assert!(matches!(
        Client::connect(&app.folder.0.join("control.sock")).await,
        Err(ClientError::Refused(_))
    ));
}

#[tokio::test]
async fn a_reply_under_way_survives_the_end_and_a_client_that_leaves_does_not_matter() {
    static GO: Notify = Notify::const_new();
    let app = App::start("leave", |command: &Command| {
        let waits = matches!(command, Command::Stop { .. });
        async move {
            if waits {
                GO.notified().await;
            }
            Reply {
                ok: true,
                ..Reply::default()
            }
        }
    });
    let client = Client::connect(&app.socket()).await.expect("it listens");
    let leaving = tokio::time::timeout(
        Duration::from_millis(50),
        client.command(Method::POST, "/v1/stop", &json!({})),
    )
    .await;
    assert!(leaving.is_err(), "it was not answered");
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.command(Method::POST, "/v1/stop", &json!({})).await })
    };
    let deadline = tokio::time::Instant::now() + LONG;
    while app.asked().len() < 2 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the second request never arrived"
        );
        tokio::task::yield_now().await;
    }
    app.shutdown.send(()).expect("it runs");
    GO.notify_waiters();
    assert!(waiting.await.expect("no panic").expect("a reply").ok);
    tokio::time::timeout(LONG, app.server)
        .await
        .expect("bounded")
        .expect("no panic")
        .expect("no error");
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_the_end_up() {
    let app = App::start("mute", |_: &Command| std::future::pending());
    let mut mute = UnixStream::connect(app.socket()).await.expect("it listens");
    mute.write_all(b"POST /v1/stop HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("it reads");
    while app.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    app.shutdown.send(()).expect("it runs");
    tokio::time::timeout(LONG, app.server)
        .await
        .expect("bounded by a second")
        .expect("no panic")
        .expect("no error");
}

#[tokio::test]
async fn sockets_are_private_and_stale_ones_replaced() {
    let folder = Folder::new("bind");
    let path = folder.0.join("control.sock");
    assert!(matches!(Client::connect(&path).await, Err(ClientError::NoSocket(_))));
    let listener = bind_private(&path);
    assert_eq!(
        path.metadata().expect("it is there").permissions().mode() & 0o777,
        0o600
    );
    drop(listener);
    assert!(matches!(Client::connect(&path).await, Err(ClientError::Refused(_))));
    let again = bind_private(&path);
    UnixStream::connect(&path).await.expect("the stale one is replaced");
    drop(again);
    std::fs::remove_file(&path).expect("ours");
    std::fs::write(&path, "precious").expect("ours");
    let (uid, gid) = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
    let error = crate::server::bind(&path, uid, gid, nix::sys::stat::Mode::from_bits_truncate(0o660))
        .expect_err("a file is there");
    assert!(
        error.to_string().ends_with("is in the way and is not a socket"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("untouched"), "precious");
}

#[tokio::test]
async fn what_is_not_a_controller_is_a_protocol_error() {
    let folder = Folder::new("impostor");
    let path = folder.0.join("control.sock");
    let listener = bind_private(&path);
    let impostor = tokio::spawn(async move {
        // The first answer is for the request of `connect`.
        for answer in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
        ] {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 1024];
            assert_ne!(stream.read(&mut request).await.expect("a request"), 0);
            stream.write_all(answer.as_bytes()).await.expect("it waits");
        }
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = [0; 1024];
        assert_ne!(stream.read(&mut request).await.expect("a request"), 0);
    });
    let client = Client::connect(&path).await.expect("it listens");
    let error = client
        .command(Method::POST, "/v1/workers/1/drain", &DrainRequest::default())
        .await
        .expect_err("not JSON");
    assert!(error.to_string().contains("not understood"), "{error}");
    let error = client.status().await.expect_err("it hangs up");
    assert!(
        error
            .to_string()
            .ends_with("the controller went away before it answered"),
        "{error}"
    );
    impostor.await.expect("it did its part");
}

#[tokio::test]
async fn messages_are_checked_and_sent() {
    let app = App::start("send", done);
    let long = format!("\"{}\"", "x".repeat(16 * 1024 * 1024 - 2));
    for (path, body, expected) in [
        ("/v1/workers/2/send", r#"{"message":{"a":[1, 2]}}"#, "{\"a\":[1, 2]}\n"),
        (
            "/v1/workers/2/send",
            r#"{"message":1,"topic":"t"}"#,
            "{\"id\":2,\"type\":\"process:msg\",\"topic\":\"t\",\"data\":1}\n",
        ),
        ("/v1/send", r#"{"message":null}"#, "null\n"),
        ("/v1/send", &format!(r#"{{"message":{long}}}"#), &format!("{long}\n")),
    ] {
        let (status, reply) = raw(&app, &format!("POST {path}"), body).await;
        assert_eq!(status, 200, "{path}");
        assert!(reply["message"] == expected, "{path}");
    }
    let too_long = format!(r#"{{"message":"{}"}}"#, "x".repeat(16 * 1024 * 1024));
    for (path, body, status, word) in [
        ("/v1/send", "", 400, "no body"),
        ("/v1/send", "{}", 400, "missing field"),
        ("/v1/send", r#"{"message":nothing}"#, 400, "not what this path takes"),
        ("/v1/send", r#"{"message":1,"to":2}"#, 400, "unknown field"),
        ("/v1/send", r#"{"message":{"cmd":"NODE_HANDLE"}}"#, 400, "Node's own"),
        ("/v1/send", &too_long, 400, "longer than 16 MiB"),
        ("/v1/workers/1/send", r#"{"message":1}"#, 500, "deaf"),
        ("/v1/workers/x/send", r#"{"message":1}"#, 404, "no worker x"),
    ] {
        let (code, reply) = raw(&app, &format!("POST {path}"), body).await;
        let error = reply["error"].as_str().expect("an error");
        assert_eq!(code, status, "{path}: {error}");
        assert!(error.contains(word), "{path}: {error}");
    }
}

#[tokio::test]
async fn the_bus_is_passed_on_with_its_names() {
    let app = App::start("bus", done);
    let client = Client::connect(&app.socket()).await.expect("it listens");
    let mut bus = client.bus().await.expect("a stream");
    let mut heard = Vec::new();
    while let Some(packet) = bus.next().await {
        let packet = packet.expect("a packet");
        heard.push((packet.name, packet.data));
    }
    let expected = [("chat", r#"{"data":1}"#), ("process:event", r#"{"event":"online"}"#)];
    assert_eq!(heard, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
}

async fn raw(app: &App, request: &str, body: &str) -> (u16, serde_json::Value) {
    let mut stream = UnixStream::connect(app.socket()).await.expect("it listens");
    let head = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

#[tokio::test]
async fn who_works_long_is_waited_for_and_who_is_silent_is_not() {
    // Longer than it takes to consider a controller silent.
    let work = Duration::from_secs(9);
    let app = App::start("patience", move |_: &Command| async move {
        tokio::time::sleep(work).await;
        Reply {
            ok: true,
            ..Reply::default()
        }
    });
    let client = Client::connect(&app.socket()).await.expect("it answers");
    let folder = Folder::new("silent");
    let path = folder.0.join("control.sock");
    let stopped = bind_private(&path);
    let first_answer = async {
        let (mut stream, _) = stopped.accept().await.expect("somebody asks");
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).await.expect("it listens");
        stream
    };
    let (silent, _stream) = tokio::join!(Client::connect(&path), first_answer);
    let silent = silent.expect("it answered");
    let no_body = json!({});
    let (worked, connected, status, command, events) = tokio::join!(
        client.command(Method::POST, "/v1/reload", &no_body),
        tokio::time::timeout(work, Client::connect(&path)),
        tokio::time::timeout(work, silent.status()),
        tokio::time::timeout(work, silent.command(Method::POST, "/v1/reload", &no_body)),
        tokio::time::timeout(work, silent.events()),
    );
    assert!(worked.expect("it was alive all the time").ok);
    assert!(matches!(connected, Ok(Err(ClientError::Silent(_)))), "{connected:?}");
    assert!(matches!(status, Ok(Err(ClientError::Silent(_)))), "{status:?}");
    assert!(matches!(command, Ok(Err(ClientError::Silent(_)))), "{command:?}");
    assert!(matches!(events, Ok(Err(ClientError::Silent(_)))), "{events:?}");
}
