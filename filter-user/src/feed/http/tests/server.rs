//! An HTTP server that answers as a test wants it, each connection once.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

type Script = Arc<Mutex<Arc<dyn Fn(&Request) -> Reply + Send + Sync>>>;

/// See the module.
pub(super) struct Server {
    port: u16,
    is_tls: bool,
    script: Script,
    requests: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<Request>>>,
    _task: JoinSet<()>,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Request(String);

/// What is answered.
#[derive(Clone)]
pub(super) enum Reply {
    /// These octets; then the connection ends.
    Raw(Vec<u8>),
    /// The same after a while.
    Late(Vec<u8>, Duration),
    /// These octets, and then nothing.
    Stall(Vec<u8>),
    /// Nothing.
    Silence,
    /// The connection ends.
    Close,
    /// A body without end.
    Endless,
    /// A body of which an octet comes every tenth of a second.
    Drip,
}

impl Request {
    pub(super) fn path(&self) -> &str {
        let target = self.0.split(' ').nth(1).unwrap();
        target.split('?').next().unwrap()
    }

    pub(super) fn is_for(&self, path: &str) -> bool {
        self.path() == path
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.0.split(' ').nth(1).unwrap().split_once('?').map(|(_, query)| query)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.0.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Reply {
    pub(super) fn status(status: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into())
    }

    pub(super) fn content(content: &str, headers: &[(&str, &str)]) -> Self {
        Self::with(content.as_bytes(), headers)
    }

    pub(super) fn octets(content: &[u8]) -> Self {
        Self::with(content, &[])
    }

    fn with(content: &[u8], headers: &[(&str, &str)]) -> Self {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", content.len());
        Self::Raw([head.as_bytes(), content].concat())
    }

    pub(super) fn redirect(to: &str) -> Self {
        Self::Raw(
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into(),
        )
    }

    /// Chunks without the one that says that there are no more.
    pub(super) fn chunked(chunks: &[&str]) -> Self {
        let body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        Self::Raw(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{body}").into())
    }

    /// Without its last octets, after which the connection ends or does not.
    pub(super) fn cut(self, octets: usize, stalls: bool) -> Self {
        let Self::Raw(mut content) = self else { panic!("not content") };
        content.truncate(content.len() - octets);
        if stalls { Self::Stall(content) } else { Self::Raw(content) }
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        let Self::Raw(content) = self else { panic!("not content") };
        Self::Late(content, wait)
    }
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, answer).await
    }

    pub(super) async fn start_tls(
        authority: &Authority,
        wants_client: bool,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(authority.acceptor(wants_client)), answer).await
    }

    async fn listen(tls: Option<TlsAcceptor>, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script: Script = Arc::new(Mutex::new(Arc::new(answer)));
        let (requests, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut task = JoinSet::new();
        let is_tls = tls.is_some();
        task.spawn({
            let (script, requests, heads) = (script.clone(), requests.clone(), heads.clone());
            async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    requests.fetch_add(1, Ordering::Relaxed);
                    let (script, heads, tls) = (script.clone(), heads.clone(), tls.clone());
                    connections.spawn(async move {
                        match tls {
                            None => serve(stream, &script, &heads).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    serve(stream, &script, &heads).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self { port, is_tls, script, requests, heads, _task: task }
    }

    pub(super) fn url(&self, path: &str) -> Url {
        self.url_at("localhost", path)
    }

    pub(super) fn url_at(&self, host: &str, path: &str) -> Url {
        let scheme = if self.is_tls { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{host}:{}/{path}", self.port)).unwrap()
    }

    /// How it answers from now on.
    pub(super) fn answer(&self, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(answer);
        self.heads.lock().unwrap().clear();
    }

    /// Waits until it was asked so, since it was told how to answer.
    pub(super) async fn asked(&self, so: impl Fn(&Request) -> bool) {
        let begun = Instant::now();
        while !self.heads.lock().unwrap().iter().any(&so) {
            assert!(begun.elapsed() < PATIENCE, "asked otherwise: {:?}", self.heads.lock().unwrap());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many connections there were.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: &Script, heads: &Mutex<Vec<Request>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(octet) = stream.read_u8().await else { return };
        head.push(octet);
    }
    let request = Request(String::from_utf8(head).unwrap());
    let answer = script.lock().unwrap().clone();
    heads.lock().unwrap().push(request.clone());
    // Whoever asked may have left.
    let _ = match answer(&request) {
        Reply::Raw(octets) => stream.write_all(&octets).await,
        Reply::Late(octets, wait) => {
            sleep(wait).await;
            stream.write_all(&octets).await
        }
        Reply::Stall(octets) => {
            let _ = stream.write_all(&octets).await;
            std::future::pending().await
        }
        Reply::Silence => std::future::pending().await,
        Reply::Close => Ok(()),
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let chunk = [&b"4000\r\n"[..], &[b'x'; 1 << 14], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {}
            Ok(())
        }
        Reply::Drip => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
    };
    let _ = stream.shutdown().await;
}

/// Signs certificates.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key of a client.
    pub(super) fn client(&self) -> (String, String) {
        self.sign("client.example", ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Of a server called `localhost`.
    fn acceptor(&self, wants_client: bool) -> TlsAcceptor {
        let (certificate, key) = self.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(default_provider());
        let config =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let config = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        } else {
            config.with_no_client_auth()
        };
        Arc::new(config.with_single_cert(vec![certificate], key).unwrap()).into()
    }
}
