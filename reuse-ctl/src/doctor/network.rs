//! Checks network settings that affect how well a service works.

use std::fs;

use super::{
    Check,
    feature::{EPHEMERAL, MIGRATE_REQ, SOMAXCONN},
};

/// Sufficient backlog. Node asks for 511, Bun for 512, Go and the backstop for the maximum.
const ENOUGH_PLACES: u32 = 1024;

pub(super) fn examine(ports: &[u16]) -> [Check; 3] {
    let range = sysctl("net/ipv4/ip_local_port_range");
    let reserved = sysctl("net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let ephemeral = match range.as_deref().and_then(range_of) {
        Some(range) => judge_ports(ports, range, &reserved),
        None => EPHEMERAL.tried(Err("net.ipv4.ip_local_port_range can't be read".into())),
    };
    let migrate_req = match sysctl("net/ipv4/tcp_migrate_req") {
        Some(value) => Ok(format!("{value}; not needed: the program moves connections by itself")),
        None => Err("this kernel has no net.ipv4.tcp_migrate_req".into()),
    };
    [
        ephemeral,
        MIGRATE_REQ.tried(migrate_req),
        SOMAXCONN.tried(judge_somaxconn(sysctl("net/core/somaxconn").as_deref())),
    ]
}

fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

fn range_of(text: &str) -> Option<(u16, u16)> {
    let mut bounds = text.split_whitespace();
    Some((bounds.next()?.parse().ok()?, bounds.next()?.parse().ok()?))
}

/// Checks that outgoing connections don't use the service ports. `reserved` is in the kernel's format: `8080,9148-9150`.
fn judge_ports(ports: &[u16], (low, high): (u16, u16), reserved: &str) -> Check {
    let at_risk: Vec<String> = ports
        .iter()
        .filter(|&&port| (low..=high).contains(&port) && !is_in_list(port, reserved))
        .map(u16::to_string)
        .collect();
    if at_risk.is_empty() {
        return EPHEMERAL.tried(Ok(match ports {
            [] => format!("outgoing connections take {low}–{high}: serve on a port outside of it"),
            _ => format!("outgoing connections ({low}–{high}) leave the service ports alone"),
        }));
    }
    let at_risk = at_risk.join(",");
    let list = if reserved.is_empty() {
        at_risk.clone()
    } else {
        format!("{reserved},{at_risk}")
    };
    EPHEMERAL.tried_with(
        Err(format!("outgoing connections may take {at_risk} ({low}–{high})")),
        &format!("sysctl -w net.ipv4.ip_local_reserved_ports={list}"),
    )
}

fn is_in_list(port: u16, list: &str) -> bool {
    list.split(',').any(|part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        matches!((low.parse(), high.parse()), (Ok(low), Ok(high)) if (low..=high).contains(&port))
    })
}

fn judge_somaxconn(value: Option<&str>) -> Result<String, String> {
    match value.and_then(|text| text.parse::<u32>().ok()) {
        Some(places) if places >= ENOUGH_PLACES => Ok(format!("{places} connections may wait on a listener")),
        Some(places) => Err(format!("only {places} connections may wait on a listener")),
        None => Err("net.core.somaxconn can't be read".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckOutcome;

    #[test]
    fn a_port_that_outgoing_connections_may_take_is_warned_of() {
        let range = range_of("32768\t60999").expect("two numbers");
        assert_eq!(range, (32768, 60999));
        for (ports, reserved) in [
            (&[][..], ""),
            (&[80, 8080, 32767, 61000][..], ""),
            (&[40000][..], "40000"),
            (&[40005][..], "8080,40000-40010"),
        ] {
            assert_eq!(
                judge_ports(ports, range, reserved).outcome,
                CheckOutcome::Works,
                "{ports:?}"
            );
        }
        let check = judge_ports(&[8080, 32768, 60999, 40000], range, "40000-40010");
        assert_eq!(check.outcome, CheckOutcome::Warning);
        assert_eq!(check.detail, "outgoing connections may take 32768,60999 (32768–60999)");
        assert_eq!(
            check.remedy,
            "sysctl -w net.ipv4.ip_local_reserved_ports=40000-40010,32768,60999"
        );
        assert_eq!(range_of("32768"), None);
    }

    #[test]
    fn few_places_are_warned_of() {
        assert!(judge_somaxconn(Some("4096")).is_ok());
        for few in [Some("128"), Some("many"), None] {
            assert!(judge_somaxconn(few).is_err());
        }
    }
}
