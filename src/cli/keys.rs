//! `tope keys`: creates, lists and revokes keys, in the database itself. So the first key needs no other key, and a
//! server that runs need not be stopped.

use std::{collections::BTreeSet, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::DatabaseArgs;
use crate::{
    access::{NewText, new_key},
    clock::system_now,
    console::{client::print_line, error::CliError},
    domain::{
        access::{Key, KeyState, Role},
        audit::Author,
        bounds::{KEY_NAMES_MAX, TEXT_LENGTH_MAX_BYTES},
        id::{name_fault, text_fault},
        san::san_fault,
        time::Time,
    },
    grpc::admin::SCRIBE,
    store::{By, Dialect, KeyChange, NewKey, Store, StoreOptions},
};

/// The options of `tope keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do with keys.
    #[command(subcommand)]
    pub action: Action,
}

/// What `tope keys` can do with keys.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Create a key and print its text, which is shown only this once
    Create(CreateArgs),
    /// List all keys without their secrets
    List(ListArgs),
    /// Revoke a key: calls with it fail from now on, on every server
    Revoke(OneArgs),
    /// Delete a key: calls with it fail from now on
    Delete(OneArgs),
}

/// A role, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// May make every call
    Admin,
    /// Reads, corrections and jobs; suspends tenants and agents
    Operator,
    /// Reads, and changes nothing
    Viewer,
    /// Reserve, Commit, Release, Extend, Record, Check, and reads of balances and reservations
    Spender,
}

/// The options of `tope keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What the owner may do
    #[arg(long, value_enum)]
    pub role: RoleArg,

    /// A tenant that the owner may name; may be given several times; without it, all tenants
    #[arg(long = "tenant", value_name = "ID")]
    pub tenants: Vec<String>,

    /// An agent that a spender may name; may be given several times; without it, all agents
    #[arg(long = "agent", value_name = "NAME")]
    pub agents: Vec<String>,

    /// A name in the certificates of clients that stands for the key, instead of a secret: a URI, a host or an e-mail
    /// address; prints the id of the key
    #[arg(long, value_name = "NAME")]
    pub certificate_san: Option<String>,

    /// A name for people to read
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub name: String,

    /// Days until the key expires; without it, never
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub expire_days: Option<u32>,

    /// The database that has the key.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// The options of `tope keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The database that has the keys.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// The options of `tope keys revoke` and `tope keys delete`.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Id of the key: the 12 letters after `tope_`
    #[arg(value_name = "ID")]
    pub id: String,

    /// The database that has the key.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Runs an action on the database.
///
/// # Errors
///
/// When an argument is wrong, the database cannot be used, or there is no such key.
pub async fn run(args: KeysArgs) -> Result<(), CliError> {
    match args.action {
        Action::Create(args) => create(args).await,
        Action::List(args) => list(args).await,
        Action::Revoke(args) => {
            let store = open(&args.database, "revoke a key in", false).await?;
            let change = KeyChange { state: Some(KeyState::Revoked), ..KeyChange::default() };
            let tried = format!("cannot revoke the key {:?}", args.id);
            let author = Author::command_line("UpdateKey");
            let revoked = store.update_key(by(&store, &author), &args.id, &change).await;
            revoked.map_err(|error| CliError::caused(tried, &error))?;
            end(store, format!("revoked {}", args.id)).await
        }
        Action::Delete(args) => {
            let store = open(&args.database, "delete a key in", false).await?;
            let tried = format!("cannot delete the key {:?}", args.id);
            let author = Author::command_line("DeleteKey");
            let deleted = store.delete_key(by(&store, &author), &args.id, "").await;
            deleted.map_err(|error| CliError::caused(tried, &error))?;
            end(store, format!("deleted {}", args.id)).await
        }
    }
}

async fn create(args: CreateArgs) -> Result<(), CliError> {
    let role = match args.role {
        RoleArg::Admin => Role::Admin,
        RoleArg::Operator => Role::Operator,
        RoleArg::Viewer => Role::Viewer,
        RoleArg::Spender => Role::Spender,
    };
    if !args.agents.is_empty() && role != Role::Spender {
        return Err(CliError::usage("--agent is only for --role spender"));
    }
    let (tenants, agents) = (names("--tenant", args.tenants)?, names("--agent", args.agents)?);
    if let Some(fault) = args.certificate_san.as_deref().and_then(san_fault) {
        return Err(CliError::usage(format!("--certificate-san {fault}")));
    }
    let NewText { id, hash, text } = new_key();
    let fault = if args.name.len() > TEXT_LENGTH_MAX_BYTES {
        Some("must be at most 256 bytes")
    } else {
        text_fault(&args.name)
    };
    if let Some(fault) = fault {
        return Err(CliError::usage(format!("--name {fault}")));
    }
    let store = open(&args.database, "create a key in", true).await?;
    let expires_at = args.expire_days.map(|days| {
        let life = Duration::from_secs(u64::from(days) * 86_400);
        Time(system_now().0.saturating_add(i64::try_from(life.as_millis()).unwrap_or(i64::MAX)))
    });
    let (display_name, certificate_san) = (args.name, args.certificate_san);
    let new = NewKey { id, hash, certificate_san, role, tenants, agents, display_name, expires_at };
    let author = Author::command_line("CreateKey");
    let made = store.create_key(by(&store, &author), &new).await;
    let made = made.map_err(|error| CliError::caused("cannot create a key", &error))?;
    // Nobody learns the secret of a key for which a certificate stands.
    let shown = if made.certificate_san.is_none() { text } else { made.id };
    end(store, shown).await
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let store = open(&args.database, "list the keys of", false).await?;
    let keys = store.load_keys(None).await.map_err(|error| CliError::caused("cannot list keys", &error))?;
    print_line(format!(
        "{:<12}  {:<8}  {:<7}  {:<20}  {:<24}  {:<24}  name",
        "id", "role", "state", "expires", "tenants", "certificate"
    ))?;
    for key in keys.keys.unwrap_or_default() {
        print_line(line(&key))?;
    }
    store.close().await.map_err(|error| CliError::caused("cannot close the database", &error))
}

fn line(key: &Key) -> String {
    let tenants =
        if key.tenants.is_empty() { "all".to_owned() } else { Vec::from_iter(key.tenants.clone()).join(",") };
    let expires = key.expires_at.and_then(|at| chrono::DateTime::from_timestamp_millis(at.0));
    let expires = expires.map_or("never".to_owned(), |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    let (role, state) = (key.role.name().to_lowercase(), key.state.name().to_lowercase());
    let (id, certificate) = (&key.id, key.certificate_san.as_deref().unwrap_or_default());
    let name = &key.display_name;
    format!("{id:<12}  {role:<8}  {state:<7}  {expires:<20}  {tenants:<24}  {certificate:<24}  {name}")
}

fn names(flag: &str, given: Vec<String>) -> Result<BTreeSet<String>, CliError> {
    if given.len() > KEY_NAMES_MAX {
        return Err(CliError::usage(format!("{flag} may be given at most {KEY_NAMES_MAX} times")));
    }
    match given.iter().find_map(|name| name_fault(name)) {
        Some(fault) => Err(CliError::usage(format!("{flag} {fault}"))),
        None => Ok(given.into_iter().collect()),
    }
}

/// Makes the author of a change. On PostgreSQL, the time of the database counts.
fn by<'a>(store: &Store, author: &'a Author) -> By<'a> {
    let shown = (store.dialect() == Dialect::Sqlite).then(system_now);
    By { shown, author, scribe: SCRIBE }
}

/// Opens the database. `creates`: creates a database that does not exist, and brings its schema up to date. If a server
/// uses the SQLite file, opens it beside the server, which has brought its schema up to date.
async fn open(database: &DatabaseArgs, verb: &str, creates: bool) -> Result<Store, CliError> {
    let tried = database.tried(verb);
    let failed = |error| CliError::caused(&tried, &error);
    let url = &database.database;
    let beside = StoreOptions { beside_server: true, ..StoreOptions::default() };
    if creates {
        let alone = StoreOptions { exclusive: true, ..StoreOptions::default() };
        match Store::connect(url, alone).await {
            Ok(store) => {
                store.ping().await.map_err(failed)?;
                store.migrate().await.map_err(failed)?;
                return Ok(store);
            }
            // Another process has the file.
            Err(error) => return Store::connect(url, beside).await.map_err(|_| failed(error)),
        }
    }
    let store = Store::connect(url, beside).await.map_err(failed)?;
    store.ping().await.map_err(failed)?;
    Ok(store)
}

async fn end(store: Store, line: String) -> Result<(), CliError> {
    store.close().await.map_err(|error| CliError::caused("cannot close the database", &error))?;
    print_line(line)
}
