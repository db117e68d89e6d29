//! A simulated disk for tests and simulations; it keeps *live* and *durable* bytes apart.
