//! Overrides of limits: the rpcs, and messages ⇄ arguments of the store.

use tonic::{Response, Status};

use super::{
    agents::{NAMES_ARE_FIXED, names},
    convert::{Mask, display_name_fault, required},
    limits,
    lists::List,
    parts::{Admin, of_error, of_refusal},
};
use crate::{
    domain::{
        audit::Author,
        bounds::LIMIT_LABELS_MAX,
        faults::Faults,
        id::{name_fault, new_id_fault, optional_name_fault},
        overrides::{Override, OverrideState},
        refusal::Refusal,
        shape::{Labels, PerDimension},
        time::Time,
    },
    grpc::{
        faults::{instant, labels_of},
        v1,
        wire::timestamp,
    },
    store::OverrideChange,
};

impl Admin {
    pub(super) async fn make_override(
        &self,
        request: v1::CreateOverrideRequest,
        author: &Author,
    ) -> Result<Response<v1::Override>, Status> {
        let (tenant, new) = new_override(request.r#override).map_err(of_refusal)?;
        let made = self.store()?.create_override(self.by(author), &tenant, &new).await;
        let (made, state) = made.map_err(of_error)?;
        let warnings = self.warnings_of_override(&tenant, &made, state).await;
        Ok(Response::new(v1::Override { warnings, ..message(&tenant, &made, state) }))
    }

    pub(super) async fn find_override(
        &self,
        request: v1::GetOverrideRequest,
    ) -> Result<Response<v1::Override>, Status> {
        names(&request.tenant, &request.id).map_err(of_refusal)?;
        let terms = self.terms_of(&request.tenant).await?;
        let found = terms.own.overrides.iter().find(|made| *made.id == *request.id);
        let found = found.ok_or_else(|| of_refusal(Refusal::OverrideNotFound(request.id)))?;
        Ok(Response::new(message(&request.tenant, found, terms.state_of(found, terms.now))))
    }

    pub(super) async fn page_of_overrides(
        &self,
        request: v1::ListOverridesRequest,
    ) -> Result<Response<v1::ListOverridesResponse>, Status> {
        let tenant = ("tenant", request.tenant.as_str());
        let list = List::read("ListOverrides", tenant, request.page_size, &request.page_token)?;
        let terms = self.terms_of(&request.tenant).await?;
        let (page, more) = list.page_of(&terms.own.overrides, |made| &made.id);
        let next_page_token = list.next(more, page.last().map(|last| &*last.id));
        let shown = |made: &Override| message(&request.tenant, made, terms.state_of(made, terms.now));
        let overrides = page.iter().map(|made| shown(made)).collect();
        Ok(Response::new(v1::ListOverridesResponse { overrides, next_page_token }))
    }

    pub(super) async fn change_override(
        &self,
        request: v1::UpdateOverrideRequest,
        author: &Author,
    ) -> Result<Response<v1::Override>, Status> {
        let ((tenant, id), change) = override_change(request).map_err(of_refusal)?;
        let changed = self.store()?.update_override(self.by(author), &tenant, &id, &change).await;
        let (made, state) = changed.map_err(of_error)?;
        let warnings = self.warnings_of_override(&tenant, &made, state).await;
        Ok(Response::new(v1::Override { warnings, ..message(&tenant, &made, state) }))
    }

    pub(super) async fn remove_override(
        &self,
        request: v1::DeleteOverrideRequest,
        author: &Author,
    ) -> Result<Response<()>, Status> {
        names(&request.tenant, &request.id).map_err(of_refusal)?;
        let deleted =
            self.store()?.delete_override(self.by(author), &request.tenant, &request.id, &request.etag).await;
        deleted.map(Response::new).map_err(of_error)
    }
}

/// Parses an override to create: the id of its tenant, and the override. The store sets its times.
fn new_override(message: Option<v1::Override>) -> Result<(String, Override), Refusal> {
    let mut faults = Faults::default();
    let message = required("override", message)?;
    faults.check("override.tenant", name_fault(&message.tenant));
    faults.check("override.id", new_id_fault(&message.id));
    faults.check("override.limit_id", name_fault(&message.limit_id));
    let selectors = PerDimension { agent: message.agent, user: message.user, model: message.model };
    for (dimension, value) in selectors.iter() {
        let fault = value.as_deref().and_then(optional_name_fault);
        faults.check(format_args!("override.{}", dimension.name()), fault);
    }
    let labels = if faults.is_within("override.labels", message.labels.len(), LIMIT_LABELS_MAX) {
        labels_of(&mut faults, "override.labels", message.labels)
    } else {
        Labels::new()
    };
    let quantity = quantity(&mut faults, message.quantity);
    let enforcement = limits::enforcement(&mut faults, "override.enforcement", message.enforcement);
    let thresholds = thresholds(&mut faults, message.thresholds);
    if quantity.is_none() && message.enforcement == 0 && thresholds.is_none() {
        faults.add(
            "override.quantity",
            "must be given, unless the override replaces enforcement or thresholds",
        );
    }
    let start = instant(&mut faults, "override.start_time", message.start_time);
    let end = instant(&mut faults, "override.end_time", message.end_time).unwrap_or(Time::NEVER);
    faults.check("override.reason", display_name_fault(&message.reason));
    let made = Override {
        id: message.id.into(),
        limit_id: message.limit_id,
        selectors,
        labels,
        quantity,
        enforcement,
        thresholds,
        start,
        end,
        reason: message.reason,
        created_at: Time::default(),
        updated_at: Time::default(),
    };
    faults.into_result((message.tenant, made))
}

/// Parses an update: the ids of the tenant and the override, and the changes.
fn override_change(
    request: v1::UpdateOverrideRequest,
) -> Result<((String, String), OverrideChange), Refusal> {
    let mut faults = Faults::default();
    let message = required("override", request.r#override)?;
    faults.check("override.tenant", name_fault(&message.tenant));
    faults.check("override.id", name_fault(&message.id));
    let changeable = ["quantity", "enforcement", "thresholds", "start_time", "end_time", "reason"];
    let selections = ["limit_id", "agent", "user", "model", "labels"];
    let fixed = selections.map(|field| (field, "is fixed at creation"));
    let fixed: Vec<_> = NAMES_ARE_FIXED.into_iter().chain(fixed).collect();
    let mask = Mask::read(&mut faults, request.update_mask, &changeable, &fixed);
    let given = mask.take("quantity", message.quantity, Option::is_none);
    let quantity = given.map(|given| quantity(&mut faults, given));
    let given = mask.take("enforcement", message.enforcement, |enforcement| *enforcement == 0);
    let enforcement = given.map(|given| limits::enforcement(&mut faults, "override.enforcement", given));
    let given = mask.take("thresholds", message.thresholds, Option::is_none);
    let thresholds = given.map(|given| thresholds(&mut faults, given));
    let given = mask.take("start_time", message.start_time, Option::is_none);
    let start = given.map(|given| instant(&mut faults, "override.start_time", given));
    let given = mask.take("end_time", message.end_time, Option::is_none);
    let end = given.map(|given| instant(&mut faults, "override.end_time", given).unwrap_or(Time::NEVER));
    let reason = mask.take("reason", message.reason, String::is_empty);
    faults.check("override.reason", reason.as_deref().and_then(display_name_fault));
    let change = OverrideChange { quantity, enforcement, thresholds, start, end, reason, etag: message.etag };
    faults.into_result(((message.tenant, message.id), change))
}

fn quantity(faults: &mut Faults, quantity: Option<i64>) -> Option<i64> {
    if quantity.is_some_and(|quantity| quantity < 0) {
        faults.add("override.quantity", "must be 0 or more");
    }
    quantity
}

fn thresholds(faults: &mut Faults, thresholds: Option<v1::Thresholds>) -> Option<Vec<i32>> {
    thresholds.map(|given| limits::thresholds(faults, "override.thresholds.percents", given.percents))
}

/// Returns the message of an override.
pub(super) fn message(tenant: &str, made: &Override, state: OverrideState) -> v1::Override {
    let PerDimension { agent, user, model } = made.selectors.clone();
    v1::Override {
        tenant: tenant.to_owned(),
        id: made.id.to_string(),
        limit_id: made.limit_id.clone(),
        agent,
        user,
        model,
        labels: made.labels.iter().cloned().collect(),
        quantity: made.quantity,
        enforcement: made.enforcement.map_or(v1::Enforcement::Unspecified, Into::into).into(),
        thresholds: made.thresholds.clone().map(|percents| v1::Thresholds { percents }),
        start_time: made.start.map(timestamp),
        end_time: (made.end != Time::NEVER).then(|| timestamp(made.end)),
        reason: made.reason.clone(),
        state: v1::OverrideState::from(state).into(),
        create_time: Some(timestamp(made.created_at)),
        update_time: Some(timestamp(made.updated_at)),
        etag: made.etag(tenant),
        warnings: Vec::new(),
    }
}
