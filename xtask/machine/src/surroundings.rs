//! What lies around a build: no byte of an image may depend on it.

use crate::command::Command;

/// Environment variables and the process's mask.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    umask: Option<&'static str>,
    variables: &'static [(&'static str, &'static str)],
}

impl Surroundings {
    /// Those of this process.
    pub const HERE: Self = Self { umask: None, variables: &[] };
    /// Others in every respect.
    pub const ELSEWHERE: Self = Self {
        umask: Some("077"),
        variables: &[
            ("LC_ALL", "tr_TR.UTF-8"),
            ("LANG", "tr_TR.UTF-8"),
            ("TZ", "Pacific/Kiritimati"),
            ("USER", "nobody"),
        ],
    };

    /// `program` in these surroundings.
    pub fn command(self, program: impl Into<std::path::PathBuf>) -> Command {
        let program = program.into();
        let command = match self.umask {
            Some(mask) => {
                let script = format!("umask {mask}; exec \"$@\"");
                Command::new("sh").args(["-c", &script, "sh"]).arg(program)
            }
            None => Command::new(program),
        };
        self.variables.iter().fold(command, |command, (key, value)| command.env(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn elsewhere_the_mask_and_the_language_are_others() {
        let said = |surroundings: Surroundings| async move {
            surroundings.command("sh").args(["-c", "umask; echo $LC_ALL"]).read().await.unwrap()
        };
        assert_eq!(said(Surroundings::ELSEWHERE).await, "0077\ntr_TR.UTF-8\n");
        assert_ne!(said(Surroundings::HERE).await, said(Surroundings::ELSEWHERE).await);
    }
}
