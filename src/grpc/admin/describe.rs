//! How changes are written down: things as JSON, as replies show them. No secret is in it.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json, value::Serializer};

use super::{agents, convert, keys, overrides, webhooks};
use crate::{
    clock::mint,
    grpc::OWN_DESCRIPTORS,
    store::{Scribe, Thing},
};

/// Writes down the changes of administration.
pub const SCRIBE: Scribe = Scribe { describe, mint };

/// The messages of the protos, by their names.
static MESSAGES: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(OWN_DESCRIPTORS).expect("the descriptors were compiled with this program")
});

fn describe(thing: Thing<'_>) -> String {
    let value = match thing {
        Thing::Resource(resource) => json(&convert::resource(resource.clone())),
        Thing::Plan(plan, policy) => json(&convert::plan(plan, policy)),
        Thing::Settings(policy) => json(&convert::settings(policy)),
        Thing::Tenant(planned) => json(&convert::tenant(planned.clone())),
        Thing::Agent(tenant, planned) => {
            json(&agents::message(tenant, &planned.agent, planned.plan_id.clone()))
        }
        Thing::Override(tenant, (made, state)) => json(&overrides::message(tenant, made, *state)),
        Thing::Webhook(found) => json(&webhooks::webhook(found.clone())),
        Thing::Key(key) => json(&keys::message(key.clone())),
        Thing::Redelivery(sequences, count) => {
            let sequences: Vec<String> = sequences.iter().map(ToString::to_string).collect();
            json!({ "count": count.to_string(), "sequences": sequences })
        }
    };
    value.to_string()
}

/// Returns a message in proto3 JSON, with the names of the proto, and without its etag.
fn json<M: Message + Name>(message: &M) -> Value {
    let descriptor = MESSAGES.get_message_by_name(&M::full_name()).expect("it is in the protos");
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).expect("the descriptor is that of the message");
    let options = SerializeOptions::new().use_proto_field_name(true);
    let value = dynamic.serialize_with_options(Serializer, &options);
    let mut value = value.expect("each message of the protos has a form in JSON");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("etag");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1;

    #[test]
    fn a_message_is_written_with_the_names_of_the_proto_and_without_its_etag() {
        let resource = v1::Resource {
            id: "tokens".into(),
            unit: "token".into(),
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            etag: "e".into(),
            ..v1::Resource::default()
        };
        let expected = json!({ "id": "tokens", "unit": "token", "create_time": "1970-01-01T00:00:01Z" });
        assert_eq!(json(&resource), expected);
        let key = v1::Key { role: v1::Role::Admin.into(), ..v1::Key::default() };
        assert_eq!(json(&key), json!({ "role": "ROLE_ADMIN" }));
    }
}
