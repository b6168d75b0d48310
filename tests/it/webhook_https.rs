//! An endpoint without a trusted certificate gets no data.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::{
    harness::{v1::*, *},
    webhooks::{Mark, deliver, deliveries, happen, prepare, webhook},
};

/// A self-signed certificate for 127.0.0.1, and its key, which is not a secret.
const SELF_SIGNED: &[u8] = include_bytes!("harness/self_signed.pem");

/// An HTTPS endpoint with the self-signed certificate. It runs until it is dropped.
struct Impostor {
    port: u16,
    /// Number of connections to the endpoint.
    tried: Arc<AtomicUsize>,
    /// Number of clients that trusted the certificate.
    trusted: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Impostor {
    async fn start() -> Self {
        let certificate = CertificateDer::from_pem_slice(SELF_SIGNED).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(SELF_SIGNED).expect("its key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (tried, trusted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&tried), Arc::clone(&trusted));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                // The handshake succeeds only if the client has accepted the certificate.
                if acceptor.accept(stream).await.is_ok() {
                    counts.1.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { port, tried, trusted, serving }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

both! {
    async fn an_untrusted_certificate_is_refused(world: World) {
        prepare(world).await;
        let impostor = Impostor::start().await;
        let url = format!("https://127.0.0.1:{}/hook", impostor.port);
        webhook(world, "chat", &url, &[EventKind::UsageReset]).await;
        happen(world, 1).await;
        let failed = eventually("it is tried", async || {
            deliver(world).await;
            deliveries(world, "chat", &[]).await.into_iter().find(|delivery| delivery.attempts == 1)
        })
        .await;
        assert_eq!((failed.state(), failed.response_status), (DeliveryState::Pending, 0));
        assert!(failed.error.contains("certificate"), "{failed:?}");
        Mark::start(world).await.pass(world).await;
        assert!(impostor.tried.load(Ordering::SeqCst) >= 1, "it was asked");
        assert_eq!(impostor.trusted.load(Ordering::SeqCst), 0);
    }
}
