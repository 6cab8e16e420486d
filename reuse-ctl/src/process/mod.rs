//! The process folder.
