//! Who is at the other end of the control socket.

use std::convert::Infallible;

use axum::{
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::request::Parts,
    serve::IncomingStream,
};
use nix::unistd::{Uid, User as UnixUser};
use serde::Serialize;
use tokio::net::UnixListener;

/// The user of the process at the other end, as the kernel knows it (SO_PEERCRED, unix(7)).
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    uid: Option<u32>,
}

/// Who does something, for the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Name by the user database, else by the user's own word, else the number.
    pub user: String,
    /// Number, if the kernel told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// What the user says to be, where that is something else: who used sudo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

/// The user who sent a request.
pub(super) struct By(pub User);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let claimed = parts.headers.get(CLAIMED).and_then(|user| user.to_str().ok()).map(str::to_owned);
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map_or(Peer { uid: None }, |info| info.0);
        Ok(Self(peer.user(claimed)))
    }
}

/// Header with the user that whoever sends a request says to be, escaped as in a URL.
pub const CLAIMED: &str = "cordon-user";

impl Peer {
    /// The user, who claims to be this one.
    pub(super) fn user(self, claimed: Option<String>) -> User {
        let claimed = claimed.filter(|claimed| !claimed.is_empty());
        let known = self.uid.and_then(|uid| UnixUser::from_uid(Uid::from_raw(uid)).ok().flatten());
        let by_number = || self.uid.map(|uid| uid.to_string());
        let user = known.map(|known| known.name).or_else(by_number).or_else(|| claimed.clone());
        let user = user.unwrap_or_else(|| "unknown".to_owned());
        let claimed = claimed.filter(|claimed| *claimed != user);
        User { user, uid: self.uid, claimed }
    }
}
