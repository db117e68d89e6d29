//! The deliverees from outside: real sockets on loopback, a receiver that does what each test wants.

#[cfg(test)]
mod addresses;
#[cfg(test)]
mod analytics;
#[cfg(test)]
mod anonymous;
#[cfg(test)]
mod arrives;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod files;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod options;
#[cfg(test)]
mod places;
#[cfg(test)]
mod reaching;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod sending;
#[cfg(test)]
mod signatures;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod wire;
