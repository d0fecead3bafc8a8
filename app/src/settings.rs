//! Environment variables → one typed value, all faults told at once.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

/// Everything the process can be told from outside.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `LISTEN`, default `0.0.0.0:8000`; port 0 takes a free one, and the first log line says which.
    pub listen: SocketAddr,
    /// `DATA_DIR`, default `/data`: the folder of the file `visits`.
    pub data_dir: PathBuf,
    /// `UNREADY_FILE`, default `/tmp/unready`: while it exists, `/readyz` answers 503.
    pub unready_file: PathBuf,
    /// `STANDS_IN`, `true` or `false` (default): paths it does not know are answered as `/healthz` is, and not counted.
    /// It then stands in for another app, whose probes and hooks ask for what they like.
    pub stands_in: bool,
    /// Who this process says it is.
    pub identity: Identity,
    /// What one process may be made to hold and wait for.
    pub limits: Limits,
    /// `LOG`, default `info`: the least important level that is written.
    pub log: LevelFilter,
    /// `LOG_FORMAT`, `json` (default) or `text`.
    pub log_format: LogFormat,
}

/// Names shown on the page, in JSON and in the lock file.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `POD_NAME`, default the host's name.
    pub pod: String,
    /// The host's name; in a pod, the pod's.
    pub hostname: String,
    /// `REVISION`, default the version of this crate.
    pub revision: String,
}

/// Bounds on connections and on the time given to slow clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `MAX_CONNECTIONS`, default 16384: further clients wait in the kernel's queue.
    pub connections: usize,
    /// `HEADER_TIMEOUT_MS`, default 10000: from a connection's last answer to the end of the next
    /// request's headers; an idle connection is closed by it too.
    pub header_timeout: Duration,
    /// `WRITE_TIMEOUT_MS`, default 10000: how long a client may not take a byte of its answer.
    pub write_timeout: Duration,
    /// `DRAIN_MS`, default 200, at most 1000: how long after SIGTERM new connections are still
    /// accepted, so that those who have not heard of the lost readiness yet are not refused.
    pub drain: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people at a terminal.
    Text,
}

impl Settings {
    /// Reads the process environment.
    ///
    /// # Errors
    /// [`Faults`] lists every variable that does not make sense, not just the first.
    pub fn from_env() -> Result<Self, Faults> {
        Self::read(|name| std::env::var_os(name))
    }

    /// Reads from any source of variables.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Faults> {
        let mut reader = Reader { variable, faults: Vec::new() };
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let settings = Self {
            listen: reader.parsed("LISTEN", "0.0.0.0:8000", "an address and a port, such as 0.0.0.0:8000"),
            data_dir: reader.path("DATA_DIR", "/data"),
            unready_file: reader.path("UNREADY_FILE", "/tmp/unready"),
            stands_in: reader.parsed("STANDS_IN", "false", "true or false"),
            identity: Identity {
                pod: reader.text("POD_NAME", &hostname),
                hostname,
                revision: reader.text("REVISION", env!("CARGO_PKG_VERSION")),
            },
            limits: Limits {
                connections: reader.number("MAX_CONNECTIONS", 16_384, 1..=1_000_000) as usize,
                header_timeout: Duration::from_millis(reader.number(
                    "HEADER_TIMEOUT_MS",
                    10_000,
                    1..=600_000,
                )),
                write_timeout: Duration::from_millis(reader.number("WRITE_TIMEOUT_MS", 10_000, 1..=600_000)),
                drain: Duration::from_millis(reader.number("DRAIN_MS", 200, 0..=1000)),
            },
            log: reader.parsed("LOG", "info", "off, error, warn, info, debug or trace"),
            log_format: reader.parsed("LOG_FORMAT", "json", "json or text"),
        };
        match reader.faults.is_empty() {
            true => Ok(settings),
            false => Err(Faults(reader.faults)),
        }
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(()),
        }
    }
}

/// Every setting that does not make sense.
#[derive(Debug)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = if self.0.len() == 1 { "setting does" } else { "settings do" };
        write!(f, "{} {settings} not make sense", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

/// Reads variables one by one; a fault is noted and the default stands in until all are read.
struct Reader<V> {
    variable: V,
    faults: Vec<String>,
}

impl<V: Fn(&str) -> Option<OsString>> Reader<V> {
    fn text(&mut self, name: &str, default: &str) -> String {
        // An empty variable is how a chart writes "not set".
        let Some(value) = (self.variable)(name).filter(|value| !value.is_empty()) else {
            return default.to_owned();
        };
        value.into_string().unwrap_or_else(|value| {
            self.faults.push(format!("{name}={}: not valid UTF-8", value.display()));
            default.to_owned()
        })
    }

    fn path(&mut self, name: &str, default: &str) -> PathBuf {
        let path = PathBuf::from(self.text(name, default));
        if !path.is_absolute() {
            self.faults.push(format!("{name}={}: expected an absolute path", path.display()));
        }
        path
    }

    fn parsed<T: FromStr>(&mut self, name: &str, default: &str, expected: &str) -> T {
        let text = self.text(name, default);
        text.parse().unwrap_or_else(|_| {
            self.faults.push(format!("{name}={text}: expected {expected}"));
            default.parse().ok().expect("defaults parse; a test reads them all")
        })
    }

    fn number(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let text = self.text(name, &default.to_string());
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (low, high) = range.into_inner();
                self.faults.push(format!("{name}={text}: expected a number from {low} to {high}"));
                default
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Faults> {
        Settings::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn an_empty_environment_gives_the_documented_defaults() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:8000");
        assert_eq!(settings.data_dir, PathBuf::from("/data"));
        assert_eq!(settings.unready_file, PathBuf::from("/tmp/unready"));
        assert_eq!(settings.identity.pod, settings.identity.hostname);
        assert_eq!(settings.log_format, LogFormat::Json);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = read(&[
            ("LISTEN", "8000"),
            ("DATA_DIR", "data"),
            ("MAX_CONNECTIONS", "0"),
            ("LOG", "loud"),
            ("LOG_FORMAT", "xml"),
        ])
        .unwrap_err()
        .to_string();
        assert_eq!(
            faults,
            "5 settings do not make sense\
             \n  LISTEN=8000: expected an address and a port, such as 0.0.0.0:8000\
             \n  DATA_DIR=data: expected an absolute path\
             \n  MAX_CONNECTIONS=0: expected a number from 1 to 1000000\
             \n  LOG=loud: expected off, error, warn, info, debug or trace\
             \n  LOG_FORMAT=xml: expected json or text"
        );
    }

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        assert_eq!(read(&[("REVISION", "")]).unwrap().identity.revision, env!("CARGO_PKG_VERSION"));
    }
}
