//! The client behind surf: takes a connection or opens one, sends, and drives it until the head of the answer is there.

use super::connect::Connector;
use super::pool::{Connection, Pool, Request};
use super::target::Target;
use super::{Answer, Carried, Failure, Progress, Stage};
use bytes::Bytes;
use http_body_util::Full;
use http_client::{HttpClient, async_trait};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderName, HeaderValue};
use std::fmt;
use std::sync::Arc;

/// How often a request that never left is sent on another connection.
const TRIES_MAX: usize = 4;

/// surf's client: HTTP/1.1 over guarded connections.
pub(super) struct Client {
    connector: Connector,
    pool: Pool,
}

impl Client {
    pub(super) const fn new(connector: Connector, pool: Pool) -> Self {
        Self { connector, pool }
    }

    /// Sends a request that is ready to go, and again only where it never left: a kept connection may have been closed
    /// by the other side in the meantime.
    async fn exchange(
        &self,
        target: &Target,
        mut request: Request,
        progress: &Progress,
    ) -> Result<(Connection, Head), Failure> {
        for _ in 1..TRIES_MAX {
            let Some(mut connection) = self.pool.take(target.origin()) else { break };
            progress.address(connection.address());
            progress.at(Stage::Answering);
            match connection.send(request).await {
                Ok(answer) => {
                    progress.done();
                    return Ok((connection, answer));
                }
                Err(mut unsent) => match unsent.take_message() {
                    Some(message) => request = message,
                    None => return Err(Failure::exchanging(unsent.error())),
                },
            }
        }
        let opened = self.connector.connect(target.origin(), progress).await?;
        progress.at(Stage::Answering);
        let mut connection = Connection::new(opened).await.map_err(|e| Failure::exchanging(&e))?;
        match connection.send(request).await {
            Ok(answer) => {
                progress.done();
                Ok((connection, answer))
            }
            Err(unsent) => Err(Failure::exchanging(unsent.error())),
        }
    }
}

type Head = hyper::Response<Incoming>;

#[async_trait]
impl HttpClient for Client {
    async fn send(&self, mut request: http_client::Request) -> Result<http_client::Response, http_client::Error> {
        let carried = request.ext_mut().remove::<Carried>();
        let (target, body, progress) = match carried {
            Some(Carried { target, body, progress }) => (target, body, progress),
            // A request that surf's own way of writing made.
            None => {
                let target = Target::parse(request.url().as_str()).map_err(|e| bad(format!("the URL {e}")))?;
                (Arc::new(target), Bytes::from(request.body_bytes().await?), Progress::default())
            }
        };
        let outgoing = outgoing(&request, &target, body)?;
        let (connection, answer) = self.exchange(&target, outgoing, &progress).await.map_err(raise)?;
        Ok(Answer::response(answer, connection, self.pool.clone(), target))
    }
}

fn outgoing(request: &http_client::Request, target: &Target, body: Bytes) -> Result<Request, http_client::Error> {
    let mut outgoing = hyper::Request::new(Full::new(body));
    *outgoing.method_mut() = request.method().as_ref().parse().map_err(|_| bad("the method is not one"))?;
    *outgoing.uri_mut() = target.path();
    let headers = outgoing.headers_mut();
    headers.reserve(request.iter().count() + 1);
    headers.insert(HOST, target.host_header());
    for (name, values) in request.iter() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| bad("a header's name is not one"))?;
        for value in values {
            let value = HeaderValue::from_str(value.as_str()).map_err(|_| bad("a header's value is not one"))?;
            headers.append(name.clone(), value);
        }
    }
    Ok(outgoing)
}

fn bad(words: impl Into<String>) -> http_client::Error {
    raise(Failure::Request(words.into()))
}

/// surf's error, with ours in it for [`Failure::of`] to take out.
fn raise(failure: Failure) -> http_client::Error {
    http_client::Error::new(502, failure)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
