//! An endpoint of webhooks that keeps what it is told, and answers as it is told to.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::body::{Body, Bytes, to_bytes};
use http::{HeaderMap, Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// What was posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// All of them.
    pub headers: HeaderMap,
    /// As it came.
    pub body: Bytes,
    /// Behind the address.
    pub path: String,
}

impl Post {
    /// A header that must be there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).expect("the header is there").to_str().expect("it is text")
    }

    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The event's place in the log.
    pub fn sequence(&self) -> i64 {
        let body = self.json();
        let text = body["data"]["sequence"].as_str().expect("an event has one, as text");
        text.parse().expect("it is a number")
    }

    /// Whether the `standardwebhooks` library takes it for genuine, with this secret.
    pub fn is_genuine(&self, secret: &str) -> bool {
        let oracle = standardwebhooks::Webhook::new(secret).expect("a secret");
        oracle.verify(&self.body, &self.headers).is_ok()
    }
}

/// How a post is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With this status and no body.
    Status(u16),
    /// Somewhere else.
    Redirect(String),
    /// With this status, once somebody lets it go.
    Held(Arc<Semaphore>, u16),
    /// Never.
    Stall,
    /// With success, and a gigabyte.
    Gigabyte,
}

type Answers = Box<dyn FnMut(&Post) -> Answer + Send>;

/// An endpoint on the loopback, until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
    answers: Arc<Mutex<Answers>>,
    /// Bytes of the answers that are a gigabyte.
    sent: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Self {
        Self::answering(|_| Answer::Status(204)).await
    }

    /// One that answers like this.
    pub async fn answering(answers: impl FnMut(&Post) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let posts = Arc::new(Mutex::new(Vec::new()));
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Box::new(answers)));
        let sent = Arc::new(AtomicUsize::new(0));
        let inside = Inside { posts: posts.clone(), answers: answers.clone(), sent: sent.clone() };
        let serving = tokio::spawn(serve(listener, inside));
        Self { address, posts, answers, sent, serving }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it answers like this.
    pub fn answer(&self, answers: impl FnMut(&Post) -> Answer + Send + 'static) {
        *self.answers.lock().expect("no answer fails") = Box::new(answers);
    }

    /// What was posted until now.
    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().expect("no post fails").clone()
    }

    /// Bytes of the answers that are a gigabyte, which left it until now.
    pub fn sent_bytes(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Inside {
    posts: Arc<Mutex<Vec<Post>>>,
    answers: Arc<Mutex<Answers>>,
    sent: Arc<AtomicUsize>,
}

async fn serve(listener: TcpListener, inside: Inside) {
    while let Ok((stream, _)) = listener.accept().await {
        let inside = inside.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| inside.clone().receive(request));
            // A client that hangs up is a client's affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Inside {
    async fn receive(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), 1 << 20).await.unwrap_or_default();
        let post = Post { headers: head.headers, body, path: head.uri.path().to_owned() };
        let answer = (self.answers.lock().expect("no answer fails"))(&post);
        self.posts.lock().expect("no post fails").push(post);
        let (status, location, body) = match answer {
            Answer::Status(status) => (status, None, Body::empty()),
            Answer::Redirect(to) => (302, Some(to), Body::empty()),
            Answer::Held(gate, status) => {
                gate.acquire().await.expect("nobody closes it").forget();
                (status, None, Body::empty())
            }
            Answer::Stall => std::future::pending().await,
            Answer::Gigabyte => (200, None, gigabyte(self.sent)),
        };
        let mut response = Response::builder().status(status);
        if let Some(location) = location {
            response = response.header("location", location);
        }
        Ok(response.body(body).expect("a response"))
    }
}

fn gigabyte(sent: Arc<AtomicUsize>) -> Body {
    const PIECE: usize = 64 * 1_024;
    let pieces = futures::stream::iter((0..(1 << 30) / PIECE).map(move |_| {
        sent.fetch_add(PIECE, Ordering::Relaxed);
        Ok::<_, Infallible>(Bytes::from(vec![b'x'; PIECE]))
    }));
    Body::from_stream(pieces)
}
