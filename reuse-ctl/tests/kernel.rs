//! The programs in the real kernel.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
};

use reuse_common::{Policy, client::ClientMask, seats::Seat, verdict::Verdict};
use reuse_ctl::bpf::{AppOptions, AppPrograms, GroupProgram};
use socket2::{Domain, Socket, Type};

fn listener(addr: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.bind(&addr.into()).expect("bind");
    socket.listen(128).expect("listen");
    socket.into()
}

#[tokio::test]
async fn every_policy_steers() {
    let cgroup = "/sys/fs/cgroup/unified/reuse-kernel-test";
    std::fs::create_dir_all(cgroup).expect("cgroup");
    let options = AppOptions {
        policy: Policy::RoundRobin,
        client_mask: ClientMask::new(32, 64),
        client_ttl_s: 60,
        client_capacity: 1000,
        ports: vec![],
        cgroup_level: 2,
        verbose: std::env::var_os("VERBOSE").is_some(),
    };
    let pins = Path::new("/sys/fs/bpf/reuse-ctl/kernel-test");
    let (mut app, _notices) = AppPrograms::load(pins, &File::open(cgroup).expect("open"), &options)
        .unwrap_or_else(|error| panic!("{error:?}"));
    let mut group = GroupProgram::load(&app, false).unwrap_or_else(|error| panic!("{error:?}"));
    let lot = listener("127.0.0.1:0".parse().expect("addr"));
    let addr = lot.local_addr().expect("addr");
    group.attach(lot.as_fd()).expect("attach");
    group.set_member(0, 0, lot.as_fd()).expect("lot");
    let workers: Vec<_> = (1..=4u16)
        .map(|index| {
            let worker = listener(addr);
            app.register(index, index - 1, 1_000_000 + u64::from(index))
                .expect("register");
            group.set_member(index, 0, worker.as_fd()).expect("member");
            worker
        })
        .collect();
    let _parked = TcpStream::connect(addr).expect("connect");
    assert_eq!(group.verdicts().expect("verdicts").get(Verdict::Parked), 1);
    let seats: Vec<_> = (1..=4u16).map(|index| Seat::new(index - 1, index, 1)).collect();
    group.publish(&seats).expect("publish");
    for policy in Policy::ALL {
        app.set_policy(policy).expect("policy");
        let selected = |app: &AppPrograms| {
            (1..=4)
                .map(|index| app.load_of(index).selected_total())
                .collect::<Vec<_>>()
        };
        let before = selected(&app);
        for _ in 0..40 {
            TcpStream::connect(addr).expect("connect");
        }
        let counts: Vec<_> = selected(&app)
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        println!("{policy:?}: {counts:?}");
        assert_eq!(counts.iter().sum::<u64>(), 40);
    }
    let verdicts = group.verdicts().expect("verdicts");
    assert_eq!(
        (verdicts.get(Verdict::Chosen), verdicts.get(Verdict::Fallback)),
        (160, 0)
    );
    drop(workers);
    std::fs::remove_dir(cgroup).expect("cgroup");
}
