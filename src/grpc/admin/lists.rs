//! Pages of the lists that are sorted by id.

use tonic::Status;

use super::parts::of_refusal;
use crate::{
    domain::{
        faults::Faults,
        id::{name_fault, optional_name_fault},
    },
    grpc::token::{self, Token},
};

/// The filter of a list that shows everything.
pub(super) const NO_FILTER: (&str, &str) = ("", "");

/// A request for one page of a list that is sorted by id.
pub(super) struct List {
    token: Token,
    after: Option<String>,
    pub(super) size: usize,
}

impl List {
    /// Reads the page that a request of the rpc `method` asks for. `filter` has the field
    /// and the value of the list's only filter. A tenant must be given, and another filter may be empty.
    pub(super) fn read(
        method: &str,
        (field, filter): (&str, &str),
        page_size: i32,
        page_token: &str,
    ) -> Result<Self, Status> {
        let mut faults = Faults::default();
        faults.check(field, if field == "tenant" { name_fault(filter) } else { optional_name_fault(filter) });
        let token = Token::new(method).text(filter);
        let size = token::page_size(&mut faults, page_size);
        let last_id = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let after = token::decode(&mut faults, &token, page_token, last_id);
        faults.into_result(Self { token, after, size }).map_err(of_refusal)
    }

    /// Returns the last id of the previous page, or `None` for the first page.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Returns the page of items that are all in memory, sorted by id, and whether more items follow.
    pub(super) fn page_of<'a, T>(&self, items: &'a [T], id: impl Fn(&T) -> &str) -> (&'a [T], bool) {
        let first =
            items.partition_point(|item| self.after.as_deref().is_some_and(|after| id(item) <= after));
        let rest = &items[first..];
        (&rest[..rest.len().min(self.size)], rest.len() > self.size)
    }

    /// Returns the token of the next page. The token is empty on the last page.
    pub(super) fn next(&self, more: bool, last_id: Option<&str>) -> String {
        match last_id {
            Some(last_id) if more => token::encode(&self.token, last_id.as_bytes()),
            Some(_) | None => String::new(),
        }
    }
}
