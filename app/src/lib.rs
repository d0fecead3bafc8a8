//! A visits counter whose number survives everything.
//!
//! One visit's way through the crate: [`server`] takes the connection and bounds what it may cost,
//! [`routes`] asks the [`counter`] for a number, the counter's writer thread puts it into the
//! [`store`] together with every visit that arrived meanwhile, and only then does the answer leave,
//! as a [`page`] or as JSON, whichever was asked for ([`accept`]).
//! Reads look at the last number that reached the disk and wait for nobody.
//!
//! What may go wrong with the disk is a [`store::StoreError`]; what a client is told about it is an
//! [`error::AppError`].

pub mod settings;
pub mod store;
pub mod counter;
pub mod routes;
pub mod accept;
pub mod page;
pub mod error;
pub mod readiness;
pub mod metrics;
pub mod server;
pub mod shutdown;
pub mod logs;
