//! R8: the audit shows who made which change.

mod callers;
mod each;
mod lists;
mod secrets;

use serde_json::Value;

use crate::harness::{call::Answer, clients::done, v1::*, *};

/// Returns one page of the audit.
async fn page(clients: &Clients, request: ListChangesRequest) -> Answer<ListChangesResponse> {
    done(clients.admin.clone().list_changes(request).await)
}

/// Returns all changes that pass a filter, the newest first, from pages of this size.
async fn changes(clients: &Clients, filter: &ListChangesRequest, page_size: i32) -> Vec<Change> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListChangesRequest { page_size, page_token, ..filter.clone() };
        let page = page(clients, request).await.expect("a page");
        assert!(page.changes.len() <= usize::try_from(page_size).expect("a size"));
        found.extend(page.changes);
        if page.next_page_token.is_empty() {
            return found;
        }
        page_token = page.next_page_token;
    }
}

/// Returns all changes, the newest first.
async fn all(clients: &Clients) -> Vec<Change> {
    changes(clients, &ListChangesRequest::default(), 1_000).await
}

/// Returns the value at a place in the JSON of a thing, such as `/limits/0/quantity`.
fn at_place(text: &str, place: &str) -> Value {
    let value: Value =
        if text.is_empty() { Value::Null } else { serde_json::from_str(text).expect("it is JSON") };
    value.pointer(place).cloned().unwrap_or_default()
}
