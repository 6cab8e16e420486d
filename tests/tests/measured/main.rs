//! What is measured in time, with the release binary and real servers. One program for itself, run by one thread: nothing else may load the
//! machine meanwhile.

mod endings;
mod health;
mod hung;
mod messages;
mod port_finders;
