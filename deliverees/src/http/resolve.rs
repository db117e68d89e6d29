//! The seam between a connection and whoever knows the addresses of names.

use futures_util::future::BoxFuture;
use std::fmt;
use std::net::IpAddr;

/// Finds the addresses of a name.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `name`, in the order in which they should be tried.
    fn resolve(&self, name: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>>;

    /// Whether it answered lately, for whatever name: then one that gets no answer is itself at fault. Default true.
    fn works(&self) -> bool {
        true
    }

    /// Whether `name` is itself at fault, where it was asked for and has found no answer by now. Default as
    /// [`Resolve::works`].
    fn blames(&self, _name: &str) -> bool {
        self.works()
    }
}

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name, it has no address, or its own servers do not answer: the endpoint's fault.
    #[error("{0}")]
    Name(String),
    /// The resolver fails or cannot be reached: ours.
    #[error("{0}")]
    Resolver(String),
}
