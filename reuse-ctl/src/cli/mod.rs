//! The cli folder.
