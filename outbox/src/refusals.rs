//! Who is told of deliveries that were dead at birth.

use crate::{Refused, TellRefused};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the one who wants to know stands, if there is one.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Option<Arc<TellRefused>>>);

impl Refusals {
    pub(crate) fn set(&self, tell: Box<TellRefused>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::from(tell));
    }

    /// Tells of these; nothing where there are none.
    pub(crate) fn tell(&self, refused: &[Refused]) {
        let tell = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tell) = tell.filter(|_| !refused.is_empty()) {
            tell(refused);
        }
    }
}
