//! No secret is in the audit.

use super::all;
use crate::harness::{clients::done, v1::*, *};

both! {
    /// R8.2: neither the text of a key, nor its hash, nor the secret of a webhook is in any row.
    async fn no_secret_is_in_the_audit(world: World) {
        let key = Key { role: Role::Admin.into(), ..Key::default() };
        let key = done(world.admin.clone().create_key(CreateKeyRequest { key: Some(key) }).await).expect("it is right");
        let hook = Webhook { id: "chat".into(), url: "http://127.0.0.1:9/".into(), ..Webhook::default() };
        let request = CreateWebhookRequest { webhook: Some(hook) };
        let hook = done(world.admin.clone().create_webhook(request).await).expect("it is new");
        let request = RotateWebhookSecretRequest { id: "chat".into(), ..RotateWebhookSecretRequest::default() };
        let rotated = done(world.admin.clone().rotate_webhook_secret(request).await).expect("it is there");
        let request = DeleteKeyRequest { id: key.id.clone(), etag: String::new() };
        let hash = world.database.text("SELECT hex(hash) FROM keys", "SELECT encode(hash, 'hex') FROM keys").await;
        done(world.admin.clone().delete_key(request).await).expect("it is there");

        let whole = "SELECT group_concat(hex(id) || caller || address || rpc || thing || tenant || before || after || request_id) FROM changes";
        let on_postgres = "SELECT string_agg(changes::text, ' ') FROM changes";
        let rows = world.database.text(whole, on_postgres).await.to_lowercase();
        assert_eq!(all(world).await.len(), 4, "create and delete of a key, create and rotate of a webhook");
        assert!(rows.contains(&key.id.to_lowercase()) && rows.contains("chat"), "{rows}");
        let secret = key.text.rsplit('_').next().expect("a secret");
        for hidden in [secret, &hook.secret, &rotated.secret, &hash] {
            let hidden = hidden.trim_start_matches("whsec_").to_lowercase();
            assert!(hidden.len() > 20 && !rows.contains(&hidden), "{hidden} is in {rows}");
        }
    }
}
