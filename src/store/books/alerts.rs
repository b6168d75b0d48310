//! Encodes a counter's alerts for the counter's row, as a protobuf message that only the store uses. Fields may be
//! added; tags never change their meaning.

use prost::Message;

use crate::{
    domain::alert::{Alerts, LimitAlerts},
    store::StoreError,
};

#[derive(Clone, PartialEq, Message)]
struct AlertsBody {
    #[prost(message, repeated, tag = "1")]
    limits: Vec<LimitAlertsBody>,
}

#[derive(Clone, PartialEq, Message)]
struct LimitAlertsBody {
    #[prost(string, tag = "1")]
    limit: String,
    #[prost(int32, repeated, tag = "2")]
    reached: Vec<i32>,
    #[prost(int32, tag = "3")]
    generation: i32,
    #[prost(int64, tag = "4")]
    refused: i64,
    #[prost(int64, tag = "5")]
    observed: i64,
    #[prost(int64, tag = "6")]
    carried: i64,
}

/// Encodes a counter's alerts, for the counter's row.
pub(super) fn encode_alerts(alerts: &Alerts) -> Vec<u8> {
    let limits = alerts.limits.iter().map(|alert| LimitAlertsBody {
        limit: alert.limit.clone(),
        reached: alert.reached.clone(),
        generation: alert.generation,
        refused: alert.refused,
        observed: alert.observed,
        carried: alert.carried,
    });
    AlertsBody { limits: limits.collect() }.encode_to_vec()
}

/// Reads a counter's alerts from the counter's row.
pub(super) fn decode_alerts(bytes: &[u8]) -> Result<Alerts, StoreError> {
    let body =
        AlertsBody::decode(bytes).map_err(|_| StoreError::Corrupt("the alerts of a counter".to_owned()))?;
    let limits = body.limits.into_iter().map(|alert| LimitAlerts {
        limit: alert.limit,
        reached: alert.reached,
        generation: alert.generation,
        refused: alert.refused,
        observed: alert.observed,
        carried: alert.carried,
    });
    Ok(Alerts { limits: limits.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_decoded_as_they_were_encoded() {
        let daily = LimitAlerts {
            limit: "daily".into(),
            reached: vec![80, 100],
            generation: 3,
            refused: 1_000,
            observed: 7,
            carried: i64::MAX,
        };
        let alerts = Alerts { limits: vec![daily] };
        assert_eq!(decode_alerts(&encode_alerts(&alerts)).expect("it was encoded"), alerts);
        assert!(decode_alerts(b"\xff").is_err());
    }
}
