//! An endpoint of webhooks. The endpoint keeps all posts, and the test sets its answers.

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

/// One HTTP request that was received.
#[derive(Clone, Debug)]
pub struct Post {
    /// All headers of the request.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The path of the URL.
    pub path: String,
}

impl Post {
    /// Returns a header, which must exist.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).expect("the header is there").to_str().expect("it is text")
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Returns the event's place in the log.
    pub fn sequence(&self) -> i64 {
        let body = self.json();
        let text = body["data"]["sequence"].as_str().expect("an event has one, as text");
        text.parse().expect("it is a number")
    }

    /// Returns whether the library `standardwebhooks` accepts the signature with this secret.
    pub fn is_genuine(&self, secret: &str) -> bool {
        let oracle = standardwebhooks::Webhook::new(secret).expect("a secret");
        oracle.verify(&self.body, &self.headers).is_ok()
    }
}

/// The answer to a post.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status, without a body.
    Status(u16),
    /// A redirect (302) to this URL.
    Redirect(String),
    /// This status, as soon as the semaphore has a permit.
    Held(Arc<Semaphore>, u16),
    /// No answer at all.
    Stall,
    /// Success, with a body of a gigabyte.
    Gigabyte,
    /// Success, with this body.
    Page(String),
}

type Answers = Box<dyn FnMut(&Post) -> Answer + Send>;

/// An endpoint on loopback. It runs until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
    answers: Arc<Mutex<Answers>>,
    /// Number of bytes sent in bodies of `Answer::Gigabyte`.
    sent: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Receiver {
    /// Starts an endpoint that answers every post with 204.
    pub async fn start() -> Self {
        Self::answering(|_| Answer::Status(204)).await
    }

    /// Starts an endpoint whose answers this function returns.
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

    /// Returns the URL for a webhook.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Returns the port of the endpoint.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Replaces the function that returns the answers.
    pub fn answer(&self, answers: impl FnMut(&Post) -> Answer + Send + 'static) {
        *self.answers.lock().expect("no answer fails") = Box::new(answers);
    }

    /// Returns all posts that were received until now.
    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().expect("no post fails").clone()
    }

    /// Returns how many bytes were sent in bodies of `Answer::Gigabyte` until now.
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
            // An error only means that the client has closed the connection, which is allowed at any time.
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
            Answer::Page(text) => (200, None, Body::from(text)),
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
