//! The producer of the example: one command, which ends by itself, and after which its README is true.

use super::platform::Platform;
use crate::folder;
use anyhow::{Result, ensure};
use posthaste_tests::PrivateNetwork;
use posthaste_tests::daemon::{binary, root};
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn the_producer_plays_a_day_and_everybody_gets_their_part_of_it() -> Result<()> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        let platform = Platform::start(folder.path(), |config| config)?;
        let produce = root().join("examples/orchest/produce");
        let done = Command::new(produce).env("POSTHASTE", fs::canonicalize(binary())?).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&done.stdout);
        ensure!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        let sent: Vec<&str> =
            said.lines().filter(|line| !line.starts_with("==")).filter(|l| l.contains("evt_")).collect();
        ensure!(sent.len() > 60, "only {} events:\n{said}", sent.len());
        let is_told = |line: &&&str| {
            let event_type = line.split(' ').next().unwrap_or_default();
            !super::model::FOR_ANALYTICS.contains(&event_type)
        };
        let told = sent.iter().filter(is_told).count();
        for name in ["everything", "one-project", "alarms"] {
            platform.settled(name)?;
        }
        let (all, ours) = (platform.hooks_of("/everything").len(), platform.hooks_of("/one-project").len());
        // Three of the image of JupyterLab belong to no project.
        ensure!(all == told && ours == told - 3, "{all} and {ours} of {told}");
        let alarms: Vec<String> =
            platform.hooks_of("/alarms").iter().map(|hook| hook.body["type"].to_string()).collect();
        ensure!(alarms.len() == 3 && alarms.iter().all(|t| t.ends_with(":failed\"")), "{alarms:?}");
        let left = platform.telemetry()?;
        ensure!(left.len() == sent.len(), "{} of {} left", left.len(), sent.len());
        let text = left.iter().map(ToString::to_string).collect::<String>();
        for word in ["Churn", "Train", "Backfill", "Nightly", "redis", "5b1e8f60", "country", "/job", "3 * *"] {
            ensure!(!text.contains(word), "{word} has left");
        }
        Ok(())
    })
}
