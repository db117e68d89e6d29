//! placeholder
/// placeholder
#[derive(Debug)]
pub struct MemoryOutbox;
