//! What health reports, to gRPC's health service and to `/readyz`.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tonic_health::{ServingStatus, server::HealthReporter};

use crate::grpc::v1::{admin_service_server, quota_service_server};

/// The services whose health is reported. The empty name stands for the whole server.
const SERVICES: [&str; 3] = ["", quota_service_server::SERVICE_NAME, admin_service_server::SERVICE_NAME];

/// Whether calls can succeed, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Readiness {
    /// Calls can succeed now.
    Serving = 0,
    /// The database does not answer, or is not the database of the start.
    DatabaseUnavailable = 1,
    /// The database answers, but batches fail.
    BatchesFail = 2,
    /// The server is shutting down.
    Draining = 3,
}

impl Readiness {
    /// Returns the state of a server that is not shutting down.
    pub(super) fn of(available: bool, batches_commit: bool) -> Self {
        match (available, batches_commit) {
            (false, _) => Readiness::DatabaseUnavailable,
            (true, false) => Readiness::BatchesFail,
            (true, true) => Readiness::Serving,
        }
    }
}

/// The reporter of health. A clone reports to the same clients.
#[derive(Clone, Debug)]
pub(super) struct Health {
    reporter: HealthReporter,
    readiness: Arc<AtomicU8>,
}

impl Health {
    /// Makes the reporter around that of gRPC's health service. It has reported nothing yet.
    pub(super) fn new(reporter: HealthReporter) -> Self {
        Self { reporter, readiness: Arc::new(AtomicU8::new(Readiness::DatabaseUnavailable as u8)) }
    }

    /// Reports a state, until the next report.
    pub(super) async fn report(&self, readiness: Readiness) {
        self.readiness.store(readiness as u8, Ordering::Release);
        let serving = readiness == Readiness::Serving;
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Ends the open health watches: they would keep their connections open.
    pub(super) async fn end_watches(&mut self) {
        for service in SERVICES {
            self.reporter.clear_service_status(service).await;
        }
    }

    /// Returns `Ok` if the last report was SERVING, or the reason why it was not.
    pub(super) fn readiness(&self) -> Result<(), &'static str> {
        match self.readiness.load(Ordering::Acquire) {
            0 => Ok(()),
            2 => Err("the database answers, but batches fail"),
            3 => Err("the server is shutting down"),
            _ => Err("the database is unavailable"),
        }
    }
}
