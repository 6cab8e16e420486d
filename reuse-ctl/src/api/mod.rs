//! HTTP/JSON on the app's unix socket: the types on the wire, the server in the controller, the client in the CLI.

pub mod types;
