//! All bounds of the contract. Each name ends with the unit, unless the bound is a span or a number of things.

use super::time::Span;

/// Maximum length of an id or name, in UTF-8.
pub const NAME_LENGTH_MAX_BYTES: usize = 128;
/// Maximum length of a text for people, such as a display name or a reason.
pub const TEXT_LENGTH_MAX_BYTES: usize = 256;
/// Maximum length of a resource's unit.
pub const UNIT_LENGTH_MAX_BYTES: usize = 64;
/// Maximum number of amounts in one operation.
pub const AMOUNTS_MAX: usize = 16;
/// Maximum number of corrections by Amend that a reservation keeps.
pub const AMENDMENTS_MAX: usize = 20;
/// Maximum number of labels of one reservation.
pub const LABELS_MAX: usize = 16;
/// Maximum number of labels that one limit counts separately.
pub const LIMIT_LABELS_MAX: usize = 4;
/// Maximum length of a label's key.
pub const LABEL_KEY_MAX_BYTES: usize = 64;
/// Maximum length of a label's value.
pub const LABEL_VALUE_MAX_BYTES: usize = 256;
/// Maximum age of the usage that a Record reports.
pub const OCCURRED_AGE_MAX: Span = Span::days(35);
/// Time to the deadline if the request has no `ttl`.
pub const TTL_DEFAULT: Span = Span::minutes(5);
/// Maximum `ttl` of a request.
pub const TTL_MAX: Span = Span::hours(24);
/// Maximum time from a hold's creation to its deadline, including Extends.
pub const LIFETIME_MAX: Span = Span::hours(48);
/// Minimum retention of a `request_id`.
pub const REQUEST_ID_RETENTION_MIN_HOURS: u32 = 24;
/// Maximum number of limits of one plan.
pub const LIMITS_MAX: usize = 64;
/// Maximum number of thresholds of one limit.
pub const THRESHOLDS_MAX: usize = 10;
/// The largest threshold, as a percentage of the quantity.
pub const THRESHOLD_MAX_PERCENT: i32 = 1_000;
/// Number of entries on a page if the request names no size.
pub const PAGE_DEFAULT: usize = 50;
/// Maximum number of entries on a page.
pub const PAGE_MAX: usize = 1_000;
/// Maximum number of operations of one Batch call.
pub const BATCH_MAX: usize = 1_000;
/// Maximum number of counters that one ResetUsage changes.
pub const RESET_COUNTERS_MAX: usize = 10_000;
/// Number of counters of one tenant beyond which Reserve and Extend make no counters of new subjects, unless the setting says
/// another number.
pub const TENANT_COUNTERS_MAX: u64 = 1_000_000;
/// Maximum number of resources in the filter of one request.
pub const RESOURCES_MAX: usize = 100;
/// Maximum number of states or kinds in the filter of one request.
pub const CHOICES_MAX: usize = 32;
/// Maximum number of `per` dimensions of one limit.
pub const DIMENSIONS_MAX: usize = 3;
/// Maximum number of paths of one field mask.
pub const MASK_PATHS_MAX: usize = 16;
/// Maximum size of the field faults in one refusal. The faults travel in HTTP/2 headers, in base64 and next to a
/// message that repeats them. Clients accept 8 KiB of headers (grpc-core's default).
pub const FAULTS_MAX_BYTES: usize = 2_500;
/// Maximum number of webhooks of one database.
pub const WEBHOOKS_MAX: u64 = 1_000;

/// Maximum number of keys.
pub const KEYS_MAX: u64 = 10_000;

/// Maximum number of tenants, and of agents, of one key.
pub const KEY_NAMES_MAX: usize = 100;
/// Maximum length of a webhook's URL.
pub const URL_LENGTH_MAX_BYTES: usize = 2_048;
/// Maximum number of tenants whose events one webhook gets.
pub const WEBHOOK_TENANTS_MAX: usize = 100;
/// Minimum length of a webhook's secret, from Standard Webhooks.
pub const SECRET_MIN_BYTES: usize = 24;
/// Maximum length of a webhook's secret.
pub const SECRET_MAX_BYTES: usize = 64;
/// How long the previous secret stays valid if the request names no time.
pub const SECRET_OVERLAP_DEFAULT: Span = Span::hours(24);
/// Maximum time for which the previous secret stays valid.
pub const SECRET_OVERLAP_MAX: Span = Span::days(7);
/// Maximum number of deliveries that one Redeliver names by place in the log.
pub const REDELIVER_MAX: usize = 1_000;
/// Maximum number of agents of one tenant that are declared.
pub const AGENTS_MAX: u64 = 10_000;
/// Maximum number of overrides of one tenant.
pub const OVERRIDES_MAX: u64 = 1_000;
/// Maximum number of warnings in one reply.
pub const WARNINGS_MAX: usize = 20;
