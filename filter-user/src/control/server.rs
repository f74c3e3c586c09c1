//! The daemon's end of the control socket. Handlers hold nothing: each hands a [`Request`] to the daemon and waits
//! for its reply.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Path as UrlPath, Query, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
};

use super::api::{
    AttachRequest, DecideRequest, DetachRequest, Detached, Explanation, Failure, FeedStatus, InterfaceStatus,
    OrderDetail, OrderSummary, Stats, Status, Submitted, SyncRequest,
};
use super::metrics::page;
use crate::observe::EventHub;
use peer::{By, Peer, User};

pub mod peer;

/// Longest body: orders with some ten million names.
const LONGEST_BODY: usize = 1 << 29;

/// Where a handler waits for its answer.
pub type Reply<T> = oneshot::Sender<Result<T, Failed>>;

/// What the socket's users ask of the daemon.
#[derive(Debug)]
pub enum Request {
    /// How it stands.
    Status(Reply<Status>),
    /// All orders that are not revoked.
    Orders(Reply<Vec<OrderSummary>>),
    /// One order.
    Order(String, Reply<OrderDetail>),
    /// All orders that are not revoked, in the native format.
    Export(Reply<Vec<u8>>),
    /// Events in the native format.
    Submit(Bytes, User, Reply<Submitted>),
    /// The end of one order.
    Revoke {
        /// Order id.
        id: String,
        /// For the book.
        why: String,
        /// Who ends it.
        user: User,
        /// What came of it.
        reply: Reply<Submitted>,
    },
    /// Who decides about a name.
    Explain {
        /// The name, as it was given.
        name: String,
        /// The client.
        client: Option<IpAddr>,
        /// The answer.
        reply: Reply<Explanation>,
    },
    /// Counters.
    Stats(Reply<Stats>),
    /// Puts the filter on an interface.
    Attach(AttachRequest, User, Reply<InterfaceStatus>),
    /// Takes the filter off an interface.
    Detach(DetachRequest, User, Reply<Detached>),
    /// Feeds.
    Feeds {
        /// With every name that is held.
        whole: bool,
        /// The answer.
        reply: Reply<Vec<FeedStatus>>,
    },
    /// Reads a feed, or all of them, now.
    Sync(SyncRequest, Reply<Vec<FeedStatus>>),
    /// Approves or rejects what is held.
    Decide {
        /// The feed's name.
        feed: String,
        /// Ids of held changes.
        changes: Vec<String>,
        /// Approves; else rejects.
        approve: bool,
        /// Who does.
        user: User,
        /// What came of it.
        reply: Reply<Submitted>,
    },
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense as it is.
    #[error("{0}")]
    Invalid(String),
    /// It is right, but cannot be done now.
    #[error("{0}")]
    Impossible(String),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Failed {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Impossible(_) => StatusCode::CONFLICT,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.status(), Json(Failure { error: self.to_string() })).into_response()
    }
}

/// A listener whose file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A start after a crash copes with a file that is left.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens at `path`, for the owner and the group of the file; makes its folder.
    ///
    /// # Errors
    /// `AddrInUse` if another daemon answers there; otherwise what the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket"));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
            }
            // Left by a daemon that was killed.
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        Ok(Self { listener, file: SocketFile(path.to_owned()) })
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(
        self,
        requests: mpsc::Sender<Request>,
        events: EventHub,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = router(Handle { requests, events });
        let _file = self.file;
        // Not graceful: a reader of events never ends by itself.
        tokio::select! {
            served = axum::serve(self.listener, router.into_make_service_with_connect_info::<Peer>()).into_future() => served,
            () = stop => Ok(()),
        }
    }
}

#[derive(Clone)]
struct Handle {
    requests: mpsc::Sender<Request>,
    events: EventHub,
}

impl Handle {
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Failed> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Failed::Stopping)?;
        answer.await.map_err(|_| Failed::Stopping)?
    }

    async fn json<T: Serialize>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<Json<T>, Failed> {
        self.ask(request).await.map(Json)
    }
}

fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(daemon): State<Handle>| daemon.json(Request::Status).await))
        .route("/v1/orders", get(async |State(daemon): State<Handle>| daemon.json(Request::Orders).await).post(submit))
        .route("/v1/orders/{id}", get(order).delete(revoke))
        .route("/v1/export", get(export))
        .route("/v1/explain", get(explain))
        .route("/v1/stats", get(async |State(daemon): State<Handle>| daemon.json(Request::Stats).await))
        .route("/v1/events", get(events))
        .route("/metrics", get(metrics))
        .route("/v1/attach", post(attach))
        .route("/v1/detach", post(detach))
        .route("/v1/feeds", get(feeds))
        .route("/v1/feeds/sync", post(sync))
        .route("/v1/feeds/{feed}/approve", post(approve))
        .route("/v1/feeds/{feed}/reject", post(reject))
        .fallback(async || Failed::NotFound("no such path".to_owned()))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(handle)
}

async fn submit(State(daemon): State<Handle>, By(user): By, body: Bytes) -> Result<Json<Submitted>, Failed> {
    daemon.json(|reply| Request::Submit(body, user, reply)).await
}

async fn order(State(daemon): State<Handle>, UrlPath(id): UrlPath<String>) -> Result<Json<OrderDetail>, Failed> {
    daemon.json(|reply| Request::Order(id, reply)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    #[serde(default)]
    why: String,
}

async fn revoke(
    State(daemon): State<Handle>,
    By(user): By,
    UrlPath(id): UrlPath<String>,
    Query(Why { why }): Query<Why>,
) -> Result<Json<Submitted>, Failed> {
    daemon.json(|reply| Request::Revoke { id, why, user, reply }).await
}

async fn export(State(daemon): State<Handle>) -> Result<Response, Failed> {
    let lines = daemon.ask(Request::Export).await?;
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], lines).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    name: String,
    client: Option<IpAddr>,
}

async fn explain(
    State(daemon): State<Handle>,
    Query(Who { name, client }): Query<Who>,
) -> Result<Json<Explanation>, Failed> {
    daemon.json(|reply| Request::Explain { name, client, reply }).await
}

async fn attach(
    State(daemon): State<Handle>,
    By(user): By,
    request: Result<Json<AttachRequest>, JsonRejection>,
) -> Result<Json<InterfaceStatus>, Failed> {
    let Json(request) = request.map_err(|wrong| Failed::Invalid(wrong.body_text()))?;
    daemon.json(|reply| Request::Attach(request, user, reply)).await
}

async fn detach(
    State(daemon): State<Handle>,
    By(user): By,
    request: Result<Json<DetachRequest>, JsonRejection>,
) -> Result<Json<Detached>, Failed> {
    let Json(request) = request.map_err(|wrong| Failed::Invalid(wrong.body_text()))?;
    daemon.json(|reply| Request::Detach(request, user, reply)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(default)]
    whole: bool,
}

async fn feeds(
    State(daemon): State<Handle>,
    Query(Whole { whole }): Query<Whole>,
) -> Result<Json<Vec<FeedStatus>>, Failed> {
    daemon.json(|reply| Request::Feeds { whole, reply }).await
}

async fn metrics(State(daemon): State<Handle>) -> Result<Response, Failed> {
    let feeds = daemon.ask(|reply| Request::Feeds { whole: false, reply }).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page(&feeds)).into_response())
}

async fn sync(
    State(daemon): State<Handle>,
    request: Result<Json<SyncRequest>, JsonRejection>,
) -> Result<Json<Vec<FeedStatus>>, Failed> {
    let Json(request) = request.map_err(|wrong| Failed::Invalid(wrong.body_text()))?;
    daemon.json(|reply| Request::Sync(request, reply)).await
}

async fn approve(
    State(daemon): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(feed): UrlPath<String>,
    request: Result<Json<DecideRequest>, JsonRejection>,
) -> Result<Json<Submitted>, Failed> {
    decide(daemon, peer, feed, request, true).await
}

async fn reject(
    State(daemon): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(feed): UrlPath<String>,
    request: Result<Json<DecideRequest>, JsonRejection>,
) -> Result<Json<Submitted>, Failed> {
    decide(daemon, peer, feed, request, false).await
}

async fn decide(
    daemon: Handle,
    peer: Peer,
    feed: String,
    request: Result<Json<DecideRequest>, JsonRejection>,
    approve: bool,
) -> Result<Json<Submitted>, Failed> {
    let Json(DecideRequest { changes, user }) = request.map_err(|wrong| Failed::Invalid(wrong.body_text()))?;
    let user = peer.user(user);
    daemon.json(|reply| Request::Decide { feed, changes, approve, user, reply }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// Events from now on, until the reader leaves; or the latest ones.
async fn events(State(daemon): State<Handle>, Query(Follow { follow }): Query<Follow>) -> Response {
    const LINES: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/jsonl")];
    if !follow {
        return (LINES, daemon.events.latest().concat()).into_response();
    }
    let (mut body, stream) = http_body_util::channel::Channel::<Bytes>::new(64);
    let mut events = daemon.events.subscribe();
    tokio::spawn(async move {
        while let Some(line) = events.next().await {
            if body.send_data(line).await.is_err() {
                break;
            }
        }
    });
    (LINES, Body::new(stream)).into_response()
}

#[cfg(test)]
mod tests;
