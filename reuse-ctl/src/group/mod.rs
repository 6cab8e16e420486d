//! The group folder.
