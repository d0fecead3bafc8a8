//! The counter on a disk whose syncs take `SYNC_TAKES_US` microseconds longer, for `cargo xtask bench app`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use counter::counter::Counter;
use counter::metrics::Metrics;
use counter::readiness::Readiness;
use counter::routes::{App, router};
use counter::settings::Settings;
use counter::store::{Disk, File, Folder, Found, Status, Store};
use counter::{logs, server};
use rustix::io::Errno;

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_env()?;
    logs::start(&settings);
    let longer = Duration::from_micros(std::env::var("SYNC_TAKES_US")?.parse()?);
    let folder = Folder::open(&settings.data_dir)?;
    let (store, visits) = Store::on(Box::new(Slow { disk: folder, longer }))?;
    let metrics = Arc::new(Metrics::new(visits));
    let readiness = Arc::new(Readiness::new(settings.unready_file.clone()));
    let counter = Counter::start(store, visits, metrics.clone(), readiness.clone());
    let app = App::new(&settings.identity, counter, metrics, readiness);
    Ok(server::run(&settings, router(app.clone()), &app)?)
}

#[derive(Debug)]
struct Slow<T> {
    disk: T,
    longer: Duration,
}

impl Disk for Slow<Folder> {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }

    fn read(&self, name: &str, at_most: usize) -> Result<Option<Found>, Errno> {
        self.disk.read(name, at_most)
    }

    fn create(&self, name: &str) -> Result<Box<dyn File>, Errno> {
        Ok(Box::new(Slow { disk: self.disk.create(name)?, longer: self.longer }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn File>, Errno> {
        Ok(Box::new(Slow { disk: Disk::open(&self.disk, name)?, longer: self.longer }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        self.disk.remove(name)
    }

    fn make_folder(&self, name: &str) -> Result<(), Errno> {
        self.disk.make_folder(name)
    }

    fn remove_folder(&self, name: &str) -> Result<(), Errno> {
        self.disk.remove_folder(name)
    }

    fn sync(&self) -> Result<(), Errno> {
        sleep(self.longer);
        self.disk.sync()
    }
}

impl File for Slow<Box<dyn File>> {
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        self.disk.write(bytes, offset)
    }

    fn sync(&self) -> Result<(), Errno> {
        sleep(self.longer);
        self.disk.sync()
    }

    fn status(&self) -> Result<Status, Errno> {
        self.disk.status()
    }
}
