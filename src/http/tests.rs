//! Every route and every status, over the real registry on an outbox in memory; what such an outbox never answers
//! comes from an actor that stands in.

mod bodies;
mod docs;
mod event_types;
mod reading;
mod refusing;
mod relay;
mod reveal;
mod shown;
mod sockets;
mod stage;
mod tenants;
mod written;
