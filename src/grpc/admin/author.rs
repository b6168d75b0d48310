//! Who makes a change: what the store needs to write it down, and runs of jobs by hand.

use tonic::{Response, Status};

use super::{
    describe::SCRIBE,
    jobs,
    parts::{Admin, of_error},
};
use crate::{
    domain::audit::Author,
    grpc::{status, v1},
    jobs::NotRun,
    store::By,
};

impl Admin {
    /// Returns who makes a change, and when.
    pub(super) fn by<'a>(&self, author: &'a Author) -> By<'a> {
        By { shown: self.clock.now(), author, scribe: SCRIBE }
    }

    /// Runs a job. Writes that into the audit first, if the job can run.
    pub(super) async fn run_now(&self, name: String, author: Author) -> Result<Response<v1::JobRun>, Status> {
        let claim = self.clockwork.claim(&name).map_err(|reason| status::of_not_run(&reason))?;
        let (store, shown) = (self.store()?.clone(), self.clock.now());
        // A task of its own, so that the job runs if the audit says so, even if the client goes away.
        let ran = tokio::spawn(async move {
            store.note_run(By { shown, author: &author, scribe: SCRIBE }, &name).await.map_err(of_error)?;
            claim.run().await.map_err(|reason| status::of_not_run(&reason))
        });
        let run = ran.await.map_err(|_| status::of_not_run(&NotRun::Broken))??;
        Ok(Response::new(jobs::run(run)))
    }
}
