//! Read the settings, open the store, serve, drain: nothing else.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use counter::counter::Counter;
use counter::logs;
use counter::metrics::Metrics;
use counter::readiness::Readiness;
use counter::routes::{App, router};
use counter::server;
use counter::settings::Settings;
use counter::store::Store;

fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(faults) => return refuse(2, &faults),
    };
    logs::start(&settings);
    let (store, visits) = match Store::open(&settings.data_dir, &settings.identity) {
        Ok(opened) => opened,
        Err(error) => return refuse(1, &error.report()),
    };
    let metrics = Arc::new(Metrics::new(visits));
    let readiness = Arc::new(Readiness::new(settings.unready_file.clone()));
    let counter = Counter::start(store, visits, metrics.clone(), readiness.clone());
    let app = App::new(&settings.identity, counter, metrics, readiness).standing_in(settings.stands_in);
    match server::run(&settings, router(app.clone()), &app) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(1, &error.report()),
    }
}

/// The one place where a start that failed is told: on standard error, once, for people.
fn refuse(code: u8, reason: &dyn Display) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::from(code)
}
