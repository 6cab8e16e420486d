//! The pure machine: `handle(input, now) -> effects`.
