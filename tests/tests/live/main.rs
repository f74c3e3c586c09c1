//! The program itself, in a lab of namespaces: real clients, name servers, feeds and primaries.

mod audit;
mod browser;
mod control;
mod crash;
mod daemon;
mod disk;
mod dns;
mod feeds;
mod guards;
mod hidden;
mod hostile;
mod lab;
mod quic;
mod replay;
mod resolver;
mod rpz;
mod support;
mod tickets;
mod tls;
mod traffic;
mod transfer;
mod wrapped;
