//! An error as the record keeps it: what is known of its kind stays data.

use machine::advice;
use machine::command::{self, CommandFailed};
use model::failure::{Ended, Failure, Why};

/// The failure behind an error, and what could not be done because of it.
pub(crate) fn failure(error: &anyhow::Error) -> Failure {
    let told = || error.chain().map(ToString::to_string);
    let known = error.chain().enumerate().find_map(|(depth, cause)| Some((depth, known(cause)?)));
    let failure = match known {
        Some((depth, known)) => {
            Failure { context: told().take(depth).chain(known.context).collect(), ..known }
        }
        None => Why::Other { says: error.to_string(), causes: told().skip(1).collect() }.into(),
    };
    let next = advice::next(error).map(str::to_owned);
    Failure { next: next.or(failure.next), ..failure }
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    let CommandFailed { command, ended, log: _, output } = cause.downcast_ref()?;
    let ended = match *ended {
        command::Ended::Status(status) => Ended::Status(status),
        command::Ended::Signal => Ended::Signal,
        command::Ended::Stopped(after) => Ended::Stopped { limit_s: after.as_secs() },
        command::Ended::OverMemory(bytes) => Ended::OverMemory { limit_mib: bytes >> 20 },
    };
    Some(Why::Tool { command: command.clone(), ended, output: output.clone() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_tool_that_failed_is_known_behind_everything_said_about_it() {
        let failed = CommandFailed {
            command: "helm upgrade".to_owned(),
            ended: command::Ended::Status(1),
            log: None,
            output: "Error: no chart\n".to_owned(),
        };
        let error = anyhow::Error::new(failed).context("cannot install").context("nothing was done");
        let failure = failure(&error);
        assert_eq!(failure.context, ["nothing was done", "cannot install"]);
        assert!(matches!(&failure.why, Why::Tool { ended: Ended::Status(1), .. }), "{failure:?}");
        assert_eq!(failure.to_string(), format!("{error:#}"));
    }

    #[test]
    fn what_nobody_knows_is_kept_with_its_causes() {
        let error = Err::<(), _>(anyhow!("no route")).context("no answer").unwrap_err();
        let says = Why::Other { says: "no answer".to_owned(), causes: vec!["no route".to_owned()] };
        assert_eq!(failure(&error), says.into());
    }
}
