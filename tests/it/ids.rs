//! Ids that operators choose must have visible characters only. Names that callers send are kept byte for byte.

use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

/// Each refused id, and the character that the refusal names.
const REFUSED: [(&str, &str); 21] = [
    (" acme", "U+0020"),
    ("acme ", "U+0020"),
    ("\u{a0}acme", "U+00A0"),
    ("acme\u{3000}", "U+3000"),
    ("acme\u{2003}", "U+2003"),
    ("ac\u{200b}me", "U+200B"),
    ("acme\u{200b}", "U+200B"),
    ("ac\u{200c}me", "U+200C"),
    ("ac\u{200d}me", "U+200D"),
    ("\u{feff}acme", "U+FEFF"),
    ("ac\u{2060}me", "U+2060"),
    ("ac\u{ad}me", "U+00AD"),
    ("acme\u{fe0f}", "U+FE0F"),
    ("ac\u{3164}me", "U+3164"),
    ("acme\u{e0061}", "U+E0061"),
    ("ac\u{200e}me", "U+200E"),
    ("ac\u{202e}me", "U+202E"),
    ("ac\u{2066}me", "U+2066"),
    ("ac\u{61c}me", "U+061C"),
    ("ac\u{2028}me", "U+2028"),
    ("a\u{7}b", "U+0007"),
];

/// Accepted ids. The first two look the same but have other bytes; others have blanks inside.
const TAKEN: [&str; 7] = ["Zürich 8", "Zu\u{308}rich 8", "a b", "a\u{a0}b", "日本", "עברית", "🦀"];

fn hook(id: &str) -> Webhook {
    Webhook { id: id.into(), url: "https://hooks.example.invalid/".into(), ..Webhook::default() }
}

async fn create_hook(world: &World, id: &str) -> Answer<Webhook> {
    let request = CreateWebhookRequest { webhook: Some(hook(id)) };
    done(world.admin.clone().create_webhook(request).await)
}

fn names(no: &No, field: &str, character: &str) {
    no.names(&[field]);
    assert!(no.faults[0].1.contains(character), "{character}: {no:?}");
}

both! {
    async fn an_id_with_invisible_characters_is_refused(world: World) {
        world.declare("tokens").await;
        world.plan("free", &[]).await.expect("the plan is new");
        for (id, character) in REFUSED {
            names(&world.resource(id).await.expect_err(id), "resource.id", character);
            names(&world.plan(id, &[]).await.expect_err(id), "plan.id", character);
            names(&world.tenant(id, "free", "").await.expect_err(id), "tenant.id", character);
            names(&create_hook(world, id).await.expect_err(id), "webhook.id", character);
            let limits = [day("tokens", 1), month("tokens", 1).named(id)];
            names(&world.plan("other", &limits).await.expect_err(id), "plan.limits[1].id", character);
            names(&world.change_plan("free", &limits).await.expect_err(id), "plan.limits[1].id", character);
        }
    }

    async fn ids_are_compared_byte_for_byte(world: World) {
        world.plan("free", &[]).await.expect("the plan is new");
        for id in TAKEN {
            world.resource(id).await.expect("the resource is new");
            world.plan(id, &[day(id, 1).named(id)]).await.expect("the plan is new");
            world.tenant(id, id, "").await.expect("the tenant is new");
            create_hook(world, id).await.expect("the webhook is new");
        }
    }

    /// A caller may send any agent, user, model and request_id, except control characters.
    async fn names_that_callers_send_are_kept_byte_for_byte(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100).per(&[Dimension::User])]).await;
        for (name, character) in REFUSED {
            let call = || world.reserve("acme").tokens(1).agent(name).user(name).model(name).id(name);
            if character == "U+0007" {
                call().await.expect_err("a control character").names(&["agent", "model", "request_id", "user"]);
                continue;
            }
            let held = call().await.expect("there is quota");
            assert_eq!((held.held().agent.as_str(), held.held().request_id.as_str()), (name, name));
            assert_eq!(held.balances[0].user.as_deref(), Some(name), "it counts apart");
        }
    }

    /// Only a new id is refused, not an existing one.
    async fn existing_ids_that_break_the_rule_can_still_be_used(world: World) {
        world.tenant_with("acme", &[day("tokens", 100).thresholds(&[50])]).await;
        create_hook(world, "chat").await.expect("the webhook is new");
        let old = "\u{200b}acme ";
        for text in [
            format!("UPDATE tenants SET id = '{old}'"),
            format!("UPDATE plans SET id = '{old}', limits = REPLACE(limits, '\"day\"', '\"{old}\"')"),
            format!("UPDATE resources SET id = '{old}'"),
            format!("UPDATE webhooks SET id = '{old}'"),
        ] {
            world.database.execute(&text).await;
        }
        world.restart().await;
        let held = world.reserve(old).amount(old, 60).await.expect("there is quota");
        world.commit(held.name()).amount(old, 50).await.expect("it is held");
        assert_eq!(world.figures(old, old).await, (50, 0));
        assert_eq!(world.list(old).await.expect("the tenant exists").reservations.len(), 0);
        world.reset(old, &[old]).await.expect("the tenant exists");
        let mut limits = vec![day(old, 10).named(old), day(old, 20).named("new")];
        world.change_plan(old, &limits).await.expect("the id is one of before");
        limits[1].id = " new".into();
        world.change_plan(old, &limits).await.expect_err("a new one").names(&["plan.limits[1].id"]);
        world.set_state(old, TenantState::Suspended).await;
        world.tenant("globex", old, "").await.expect("a plan of before can be given");
        let mut webhook = hook(old);
        webhook.tenants = vec![old.into()];
        let update_mask = Some(mask(&["tenants"]));
        let request = UpdateWebhookRequest { webhook: Some(webhook), update_mask };
        done(world.admin.clone().update_webhook(request).await).expect("the webhook exists");
        let request = DeleteTenantRequest { id: old.into(), force: true, ..DeleteTenantRequest::default() };
        done(world.admin.clone().delete_tenant(request).await).expect("the tenant exists");
        let no = world.reserve(old).amount(old, 1).await.expect_err("it is gone");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
    }
}
