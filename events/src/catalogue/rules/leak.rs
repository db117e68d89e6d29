//! Takes a protection out, so that the test of anonymity can show that it would notice. Only in builds with the feature
//! `fault-injection`, which no shipped build has.

use super::{Kept, Plan, member};

impl Plan {
    /// The same plan, which copies what stands at a path of names to `event_properties`.
    pub(in crate::catalogue) fn leaking(mut self, path: &str) -> Self {
        let names: Vec<&str> = path.split('.').collect();
        if let Some((last, way)) = names.split_last() {
            let mut members = Some(&mut self.kept);
            for name in way {
                members = members.and_then(|members| match member(members, name, || Kept::Object(Vec::new())) {
                    Kept::Object(below) => Some(below),
                    _ => None,
                });
            }
            if let Some(members) = members {
                member(members, last, || Kept::Leaking);
            }
        }
        self
    }
}
