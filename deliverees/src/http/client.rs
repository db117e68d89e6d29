//! The client behind surf: takes a connection or opens one, sends, and waits for the head of the answer.

use super::connect::Connector;
use super::connection::{Connection, One, Request, Shared, Unsent};
use super::pool::{Dial, Held, Pool, Way};
use super::target::Target;
use super::{Answer, Failure, Outgoing, Progress, Stage};
use http_body_util::Full;
use http_client::{HttpClient, async_trait};
use hyper::body::Incoming;
use hyper::header::HOST;
use std::fmt;
use std::sync::Arc;
use tokio::time::{Instant, timeout};

/// How often a request that nobody took up is sent on another connection.
const TRIES_MAX: usize = 4;
/// For how many headers of a seal, and the host, room is made before they come.
const SEALS: usize = 5;

/// surf's client: HTTP/1.1 and HTTP/2 over guarded connections.
pub(super) struct Client {
    connector: Connector,
    pool: Pool,
}

type Head = hyper::Response<Incoming>;

impl Client {
    pub(super) const fn new(connector: Connector, pool: Pool) -> Self {
        Self { connector, pool }
    }

    /// Sends a request, and again only where nobody took it up: a kept connection may have been closed by the other
    /// side in the meantime, a shared one may take no more. It is written once its place is there, for each try anew.
    async fn exchange(&self, outgoing: &Outgoing) -> Result<(Connection, Held, Head), Failure> {
        let Outgoing { target, party, progress, .. } = outgoing;
        let mut tries = 1;
        loop {
            progress.at(Stage::Queueing);
            let way = self.pool.way(target.origin(), party).await;
            let late = |after| Failure::late(Stage::Queueing, after, "the most of a wait for one", true);
            let (way, held) = way.map_err(late)?;
            let (mut connection, fresh) = match way {
                Way::Kept(connection) => (connection, false),
                Way::Dial(dial) => self.open(target, dial, progress).await?,
            };
            progress.address(connection.address());
            progress.at(Stage::Answering);
            let request = write(outgoing, connection.is_shared())?;
            match self.send(target, &mut connection, request, progress).await {
                Ok(head) => {
                    progress.done();
                    return Ok((connection, held, head));
                }
                // What ends fresh connections before a request is sent on them ends the next one too.
                Err(Unsent { again: true, .. }) if tries < TRIES_MAX && (!fresh || connection.is_shared()) => {
                    tries += 1
                }
                Err(unsent) => return Err(unsent.failure),
            }
        }
    }

    async fn send(
        &self,
        target: &Target,
        connection: &mut Connection,
        request: Request,
        progress: &Progress,
    ) -> Result<Head, Unsent> {
        let Some(within) = target.wire().first_byte_timeout else { return connection.send(request).await };
        let began = Instant::now();
        timeout(within, connection.send(request)).await.unwrap_or_else(|_| {
            let failure = Failure::late(progress.stage(), began.elapsed(), "first_byte_timeout", true);
            Err(Unsent { failure, again: false })
        })
    }

    /// Opens a connection before its own deadline, unless one that others dial can be shared; and whether it is fresh.
    async fn open(&self, target: &Target, dial: Dial, progress: &Progress) -> Result<(Connection, bool), Failure> {
        let began = Instant::now();
        let within = target.wire().connect_timeout;
        // Waiting for who dials already is waiting for the endpoint.
        progress.at(Stage::Connecting);
        let opened = async {
            match self.pool.in_turn(target.origin(), dial).await {
                Way::Kept(connection) => Ok((connection, false)),
                Way::Dial(dial) => Ok((self.connect(target, dial, progress).await?, true)),
            }
        };
        timeout(within, opened).await.unwrap_or_else(|_| {
            Err(Failure::late(progress.stage(), began.elapsed(), "connect_timeout", self.connector.blames(target)))
        })
    }

    async fn connect(&self, target: &Target, dial: Dial, progress: &Progress) -> Result<Connection, Failure> {
        let (slot, turn) = dial.into_parts();
        let opened = self.connector.connect(target.origin(), progress).await?;
        if !opened.http_2 {
            self.pool.opened(target.origin(), None, turn);
            let one = One::new(opened, slot).await.map_err(|e| Failure::exchanging(&e))?;
            return Ok(Connection::One(one));
        }
        let shared = Arc::new(Shared::new(opened, slot).await.map_err(|e| Failure::exchanging(&e))?);
        let share = shared.share().ok_or_else(|| Failure::Broken("it takes no request".into()))?;
        self.pool.opened(target.origin(), Some(&shared), turn);
        Ok(Connection::Share(share))
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send(&self, mut request: http_client::Request) -> Result<http_client::Response, http_client::Error> {
        let outgoing = request.ext_mut().remove::<Outgoing>().ok_or_else(|| raise(bad("it carries nothing")))?;
        let (connection, held, answer) = self.exchange(&outgoing).await.map_err(raise)?;
        Ok(Answer::new(answer, held, connection, self.pool.clone(), outgoing.target).past())
    }
}

/// Writes the request for HTTP/1.1, or for HTTP/2, where the host is a part of the URL; and seals it.
fn write(outgoing: &Outgoing, shared: bool) -> Result<Request, Failure> {
    let Outgoing { target, headers, seal, body, .. } = outgoing;
    let mut request = hyper::Request::new(Full::new(body.clone()));
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() =
        if shared { target.absolute().ok_or_else(|| bad("the URL is not one"))? } else { target.path() };
    let written = request.headers_mut();
    written.reserve(headers.len() + SEALS);
    if !shared {
        written.insert(HOST, target.host_header());
    }
    // The later wins where two have one name.
    for (name, value) in headers {
        written.insert(name.clone(), value.clone());
    }
    if let Some(seal) = seal {
        seal(written);
    }
    Ok(request)
}

fn bad(words: impl Into<String>) -> Failure {
    Failure::Request(words.into())
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
