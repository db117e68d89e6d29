//! JSON as values of CEL: texts are borrowed, everything else is small.

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::{Number, Value};
use std::collections::HashMap;

/// A JSON value as CEL sees it. A number without fraction is an `int`, one beyond 2^63 a `uint`, every other a `double`;
/// the comparisons of CEL hold between them.
pub(super) fn of(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(b) => Box::new(CelBool::from(*b)),
        Value::Number(n) => number(n),
        Value::String(s) => Box::new(CelString::from(s.as_str())),
        Value::Array(entries) => Box::new(CelList::from(entries.iter().map(of).collect::<Vec<_>>())),
        Value::Object(entries) => {
            let entries: HashMap<CelMapKey<'_>, Box<dyn Val + '_>> =
                entries.iter().map(|(name, value)| (CelMapKey::from(name.as_str()), of(value))).collect();
            Box::new(CelMap::from(entries))
        }
    }
}

fn number(n: &Number) -> Box<dyn Val> {
    match (n.as_i64(), n.as_u64()) {
        (Some(whole), _) => Box::new(CelInt::from(whole)),
        (None, Some(whole)) => Box::new(CelUInt::from(whole)),
        (None, None) => Box::new(CelDouble::from(n.as_f64().unwrap_or(f64::NAN))),
    }
}
