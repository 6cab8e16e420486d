//! The proxies' configuration: what a person would write for four servers on this machine.

use std::path::Path;

use crate::peers::WORKERS;

/// The ports of the servers behind the proxy on `port`.
pub(crate) fn backends(port: u16) -> impl Iterator<Item = u16> + Clone {
    (port + 1..).take(WORKERS)
}

/// nginx in the foreground; everything that it writes is in `folder`.
pub(crate) fn nginx(port: u16, folder: &Path) -> String {
    let folder = folder.display();
    let servers: String = backends(port)
        .map(|backend| format!("server 127.0.0.1:{backend}; "))
        .collect();
    // The zone is what lets its two processes count together.
    format!(
        "daemon off;
worker_processes auto;
pid {folder}/pid;
error_log {folder}/output;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream app {{ zone app 64k; least_conn; {servers}}}
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://app; }} }}
}}
"
    )
}

/// HAProxy; `each` is said of every server.
pub(crate) fn haproxy(port: u16, each: &str) -> String {
    let servers: String = backends(port)
        .map(|backend| format!("  server s{backend} 127.0.0.1:{backend} check{each}\n"))
        .collect();
    format!(
        "global
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 60s
frontend front
  bind 127.0.0.1:{port} backlog 1024
  default_backend app
backend app
  balance leastconn
{servers}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_behind_its_proxy_once() {
        for text in [nginx(8100, Path::new("/x")), haproxy(8100, " maxconn 1")] {
            for backend in 8101..=8104 {
                assert_eq!(text.matches(&format!("127.0.0.1:{backend}")).count(), 1, "{text}");
            }
        }
    }
}
