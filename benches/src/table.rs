//! The table and the JSON that a run ends with.

use crate::load::UNDER_WAY_MAX;
use crate::measure::{Figures, SCENARIOS};
use serde::Serialize;
use std::fmt::Write as _;

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Requests a second of load and receiver without a daemon.
    pub alone_per_s: f64,
    /// Seconds of load in each measure.
    pub seconds: u64,
    /// Every measure, in the order it was made.
    pub figures: Vec<Figures>,
}

impl Run {
    /// The runs of a scenario on a store, as one: the mean of each figure, the most of memory.
    #[must_use]
    fn mean(&self, scenario: &str, engine: &str) -> Option<Figures> {
        let all: Vec<&Figures> = self.figures.iter().filter(|f| f.scenario == scenario && f.engine == engine).collect();
        let first = (*all.first()?).clone();
        let mean = |of: fn(&Figures) -> f64| all.iter().map(|f| of(f)).sum::<f64>() / all.len() as f64;
        let most = |of: fn(&Figures) -> f64| all.iter().map(|f| of(f)).fold(0.0, f64::max);
        Some(Figures {
            accepted_per_s: mean(|f| f.accepted_per_s),
            delivered_per_s: mean(|f| f.delivered_per_s),
            p50_ms: mean(|f| f.p50_ms),
            p99_ms: mean(|f| f.p99_ms),
            peak_mib: most(|f| f.peak_mib),
            rss_mib: most(|f| f.rss_mib),
            cpu_s_per_1000: mean(|f| f.cpu_s_per_1000),
            batches_alone_per_s: first.batches_alone_per_s.map(|_| mean(|f| f.batches_alone_per_s.unwrap_or_default())),
            ..first
        })
    }

    /// What the table cannot hold: what the catalogue costs, and the share of analytics.
    fn shares(&self) -> String {
        let mut text = String::new();
        let per_s = |name| self.mean(name, "sled").map(|f| f.delivered_per_s);
        if let (Some(plain), Some(declared)) = (per_s("single posts"), per_s("single posts, declared")) {
            text.push_str(&format!(
                "\nthe catalogue costs {:.1} % of single posts\n",
                (1.0 - declared / plain) * 100.0
            ));
        }
        for f in SCENARIOS.iter().filter_map(|s| self.mean(s.name, "sled")) {
            if let Some(alone) = f.batches_alone_per_s {
                let share = f.delivered_per_s / alone * 100.0;
                text.push_str(&format!(
                    "\n{}: {share:.1} % of {alone:.0}/s, the same batches with no outbox\n",
                    f.scenario
                ));
            }
        }
        text
    }

    /// The table, with each figure of the store as a share of the ceiling's where there is one.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "load and receiver alone: {:.0} requests/s; {} s a measure, at most {UNDER_WAY_MAX} deliveries under way\n\n\
             | scenario | store | accepted/s | delivered/s | of the ceiling | p50 ms | p99 ms | peak MiB | after MiB | CPU s/1,000 |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
            self.alone_per_s, self.seconds
        );
        for scenario in SCENARIOS {
            let ceiling = self.mean(scenario.name, "memory").map(|f| f.delivered_per_s);
            for engine in ["sled", "memory"] {
                if let Some(f) = self.mean(scenario.name, engine) {
                    let share = ceiling.map_or("-".to_owned(), |c| format!("{:.0} %", f.delivered_per_s / c * 100.0));
                    // Under full load the time under way is the length of the queue, and says nothing.
                    let latency = if scenario.rate > 0 {
                        format!("{:.2} | {:.2}", f.p50_ms, f.p99_ms)
                    } else {
                        "- | -".to_owned()
                    };
                    // A String takes whatever is written to it.
                    let _always_fits = writeln!(
                        text,
                        "| {} | {engine} | {:.0} | {:.0} | {share} | {latency} | {:.0} | {:.0} | {:.3} |",
                        scenario.name, f.accepted_per_s, f.delivered_per_s, f.peak_mib, f.rss_mib, f.cpu_s_per_1000
                    );
                }
            }
        }
        text.push_str(&self.shares());
        text
    }
}
