//! A platform as docs/ticket-feed.md describes one, with what ails platforms.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

/// See the module.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Default)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Somebody waits for the request with this number.
    pub(super) reached: Notify,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) tickets: Vec<Value>,
    /// In place of the listing.
    pub(super) listing: Option<String>,
    pub(super) allow: Vec<Value>,
    /// What was answered, in order.
    pub(super) answers: Vec<Value>,
    pub(super) logins: usize,
    pub(super) refreshes: usize,
    /// The tokens that are good: an access token and a refresh token.
    pub(super) good: (String, String),
    /// What a path is answered with instead.
    pub(super) ill: Vec<(&'static str, u16, &'static str)>,
    /// Items whose answers are not taken.
    pub(super) unwanted: Vec<&'static str>,
    /// Items at whose answers it fails.
    pub(super) broken: Vec<&'static str>,
    pub(super) requests: usize,
    /// This request is the last one that is served.
    pub(super) last: Option<usize>,
    /// After so many answers the access token is good no longer.
    pub(super) expires_after: Option<usize>,
    pub(super) at_once: usize,
    pub(super) most_at_once: usize,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/api/v1/authentication/login", post(login))
            .route("/api/v1/authentication/refresh", post(refresh))
            .route("/api/v1/ticket/get/all", get(tickets))
            .route("/api/v1/ticket/get/second", get(second))
            .route("/api/v1/allowed", get(allowed))
            .route("/api/v1/ticket/item/set/processed", post(processed))
            .route("/api/v1/ticket/item/set/unprocessed", post(unprocessed))
            .layer(from_fn_with_state(Arc::clone(&shared), gate))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, _task: task }
    }
}

/// What every request comes through.
async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().trim_start_matches("/api/v1/").to_owned();
    let (is_last, ill) = {
        let mut inner = shared.lock();
        inner.requests += 1;
        let ill = inner.ill.iter().find(|(ill, ..)| *ill == path).map(|(_, status, body)| (*status, *body));
        (inner.last.is_some_and(|last| inner.requests > last), ill)
    };
    if is_last {
        shared.reached.notify_one();
        return std::future::pending().await;
    }
    if let Some((status, body)) = ill {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = token == format!("Bearer {}", shared.lock().good.0);
    if !path.starts_with("authentication/") && !is_known {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    next.run(request).await
}

fn tokens(inner: &mut Inner) -> Json<Value> {
    let number = inner.logins + inner.refreshes;
    inner.good = (format!("access-{number}"), format!("refresh-{number}"));
    Json(json!({"status": "success", "data": {"access_token": inner.good.0, "refresh_token": inner.good.1}}))
}

async fn login(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    let mut inner = shared.lock();
    inner.logins += 1;
    if body != json!({"email": "isp@example.org", "password": "pass word"}) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    tokens(&mut inner).into_response()
}

async fn refresh(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    let mut inner = shared.lock();
    inner.refreshes += 1;
    if body != json!({"refresh_token": inner.good.1}) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    tokens(&mut inner).into_response()
}

async fn tickets(State(shared): State<Arc<Shared>>) -> Response {
    let inner = shared.lock();
    match &inner.listing {
        Some(listing) => listing.clone().into_response(),
        None => Json(json!({"status": "success", "data": inner.tickets})).into_response(),
    }
}

async fn second(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({"data": shared.lock().tickets})).into_response()
}

async fn allowed(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({"data": shared.lock().allow})).into_response()
}

async fn processed(state: State<Arc<Shared>>, body: Bytes) -> Response {
    take(state, "processed", &body).await
}

async fn unprocessed(state: State<Arc<Shared>>, body: Bytes) -> Response {
    take(state, "unprocessed", &body).await
}

async fn take(State(shared): State<Arc<Shared>>, path: &str, body: &Bytes) -> Response {
    let mut answer: Value = serde_json::from_slice(body).unwrap();
    {
        let mut inner = shared.lock();
        inner.at_once += 1;
        inner.most_at_once = inner.most_at_once.max(inner.at_once);
    }
    // So that the others arrive meanwhile.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let mut inner = shared.lock();
    inner.at_once -= 1;
    if inner.unwanted.iter().any(|item| answer["value"] == *item) {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    if inner.broken.iter().any(|item| answer["value"] == *item) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    answer["path"] = path.into();
    inner.answers.push(answer);
    if inner.expires_after == Some(inner.answers.len()) {
        inner.good.0 = "another".to_owned();
    }
    Json(json!({"status": "success"})).into_response()
}
