//! The bpf folder.
