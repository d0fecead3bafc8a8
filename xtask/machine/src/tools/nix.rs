//! Nix, and whether it can build: one on `PATH` may have neither users to build as nor a network.

use std::path::Path;
use std::time::Duration;

use super::on_path;
use crate::command::Command;

/// Evaluation, and fetching nixpkgs for it.
const PROBE_DEADLINE: Duration = Duration::from_secs(120);
/// Without a network Nix would try again for ten seconds, and behind a silent firewall for minutes.
const IMPATIENT: [&str; 6] = ["--option", "download-attempts", "1", "--option", "connect-timeout", "5"];
/// Nix builds this one itself, with nothing but the right to build.
const SMALLEST: &str = "derivation { name = \"probe\"; system = \"builtin\"; builder = \"builtin:buildenv\"; \
    derivations = [ ]; manifest = builtins.toFile \"manifest\" \"\"; }";

/// Whether there is a `nix` to ask.
pub fn is_there() -> bool {
    !on_path("nix").is_empty()
}

/// Why Nix can't build the image here, or nothing when it can.
///
/// A `nix` on PATH is not enough: without a network it can neither fetch nixpkgs nor the compiler.
pub async fn obstacle(root: &Path) -> Option<String> {
    if !root.join("flake.nix").exists() {
        return Some("there is no flake.nix".to_owned());
    }
    if !is_there() {
        return Some("it is not on PATH".to_owned());
    }
    // The smallest thing to build: a Nix that was just unpacked has no users to build as. Then the image: what it
    // needs has to be there, or a network to fetch it by.
    for asked in [&["build", "--no-link", "--expr", SMALLEST][..], &["build", ".#image", "--dry-run"]] {
        match nix(root, asked).args(IMPATIENT).deadline(PROBE_DEADLINE).output().await {
            Ok(output) if output.status == 0 => {}
            Ok(output) => {
                let reason = output.stderr.lines().rev().find_map(|line| line.split_once("error: "));
                return Some(reason.map_or("it does not say why", |(_, reason)| reason).trim().to_owned());
            }
            Err(error) => return Some(format!("{error:#}").lines().next().unwrap_or_default().to_owned()),
        }
    }
    None
}

/// `nix` with these arguments, in the checkout.
pub fn nix(root: &Path, args: &[&str]) -> Command {
    Command::new("nix").args(["--extra-experimental-features", "nix-command flakes"]).args(args).dir(root)
}
