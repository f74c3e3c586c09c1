//! A platform with tickets, as docs/ticket-feed.md describes one, in a folder: it lists `tickets.json` and writes each
//! answer as a line of `answers.jsonl`.

use std::{fs, io::Write, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::{get, post},
};
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Parser)]
struct Arguments {
    /// Where to answer.
    address: SocketAddr,
    /// Where its files are.
    folder: PathBuf,
}

const TOKEN: &str = "the-token";

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { address, folder } = Arguments::parse();
    let router = Router::new()
        .route("/authentication/login", post(login))
        .route("/ticket/get/all", get(list))
        .route("/ticket/item/set/{what}", post(answer))
        .with_state(Arc::new(folder));
    let listener = TcpListener::bind(address).await?;
    println!("listening");
    Ok(axum::serve(listener, router).await?)
}

async fn login(Json(body): Json<Value>) -> Result<Json<Value>, StatusCode> {
    if body == json!({"email": "isp", "password": "secret"}) {
        Ok(Json(json!({"data": {"access_token": TOKEN}})))
    } else {
        Err(StatusCode::UNAUTHORIZED)
    }
}

async fn list(State(folder): State<Arc<PathBuf>>, headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    authorised(&headers)?;
    let tickets = fs::read(folder.join("tickets.json")).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let tickets: Value = serde_json::from_slice(&tickets).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(json!({"data": tickets})))
}

async fn answer(
    State(folder): State<Arc<PathBuf>>,
    Path(what): Path<String>,
    headers: HeaderMap,
    Json(mut body): Json<Value>,
) -> Result<StatusCode, StatusCode> {
    authorised(&headers)?;
    body["what"] = what.into();
    let file = fs::OpenOptions::new().create(true).append(true).open(folder.join("answers.jsonl"));
    let written = file.and_then(|mut file| file.write_all(format!("{body}\n").as_bytes()));
    written.map(|()| StatusCode::NO_CONTENT).map_err(|_| StatusCode::INSUFFICIENT_STORAGE)
}

fn authorised(headers: &HeaderMap) -> Result<(), StatusCode> {
    let is_ours = headers.get(AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    if is_ours { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}
