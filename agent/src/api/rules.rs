//! `PUT /1.0/interface/{ip}/rules`: what may reach a SR-IOV VIP.
//!
//! Checked as upstream's schema does it (`rules_schema.py`), and more: a `cidr` that is none would end up in the middle
//! of nft's language.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Path, State},
};
use ipnet::IpNet;
use netns::IfName;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App,
    body::Whole,
    error::{ApiError, Fault, HttpFault, Status},
    plug::Done,
};
use crate::{
    crash,
    state::{Change, Desired, Firewall, FirewallRule, Protocol},
};

/// One rule: all three keys, and no other.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleBody {
    protocol: Protocol,
    /// Where from, as `192.0.2.0/24`; null is from everywhere.
    #[serde(deserialize_with = "present")]
    #[schema(required)]
    cidr: Option<String>,
    /// 1 to 65535.
    #[schema(value_type = u16)]
    port: serde_json::Number,
}

/// A key that must be there although its value may be null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

fn bad(field: impl std::fmt::Display, why: impl std::fmt::Display) -> ApiError {
    ApiError::http(Status::BadRequest, "Invalid rules information", Some(format!("{field}: {why}")))
}

/// Set what may reach a VIP.
///
/// Replaces all rules at once; they outlive reboots. What is not named is dropped, but for replies and what the network
/// itself needs.
#[utoipa::path(
    put, path = "/1.0/interface/{ip}/rules", operation_id = "set_interface_rules", tag = "Amphora API 1.0",
    params(("ip" = String, Path, description = "An address of the VIP's NIC")),
    request_body = Vec<RuleBody>,
    responses(
        (status = 200, description = "In force", body = Done),
        (status = 400, description = "Not an address `{message}`, or a rule is unusable; nothing was changed", body = HttpFault),
        (status = 404, description = "No interface has the address", body = Fault),
        (status = 500, description = "The kernel refused; the rules are kept and tried again", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%ip))]
pub async fn set_interface_rules(
    State(app): State<App>,
    Path(ip): Path<String>,
    Whole(body): Whole,
) -> Result<Json<Done>, ApiError> {
    let ip: IpAddr = ip.parse().map_err(|_| ApiError::message(Status::BadRequest, "Invalid IP address"))?;
    let name = super::interface::name_of(&app, ip).await?;
    let interface: IfName = name.parse().map_err(|e| bad("interface", e))?;
    let rules = parse(&body)?;
    let firewall = Firewall { interface, rules };
    // Also when they are the same: a commit is what has everything tried again now.
    let committed = app.owner.commit(move |_: &Desired| Ok(vec![Change::Firewall(firewall.clone())])).await?;
    crash::point("rules: durable");
    app.converged(committed.generation, None, |_| false).await.map_err(failed)?;
    if let Some(why) = app.progress.read(|r| r.filter.as_ref().map(|u| u.why().to_owned())) {
        return Err(failed(why));
    }
    crash::point("rules: done, not answered");
    Ok(Json(Done { message: "OK", details: None }))
}

fn failed(why: String) -> ApiError {
    ApiError::new(Status::Internal, "The rules are not in force yet", why)
}

fn parse(bytes: &[u8]) -> Result<Vec<FirewallRule>, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let bodies: Vec<RuleBody> = serde_path_to_error::deserialize(&mut json).map_err(|e| bad(e.path(), e.inner()))?;
    json.end().map_err(|e| bad("body", e))?;
    bodies.into_iter().enumerate().map(|(n, rule)| check(n, &rule)).collect()
}

fn check(n: usize, rule: &RuleBody) -> Result<FirewallRule, ApiError> {
    let cidr = |text: &str| {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        // nft cuts host bits off as well.
        net.map(|n| n.trunc()).map_err(|_| bad(format_args!("[{n}].cidr"), format_args!("{text:?} is no network")))
    };
    // The schema's `number` takes 80.0 as well, which prints as 80.
    let port = rule.port.as_f64().and_then(|p| p.to_string().parse::<u16>().ok()).filter(|p| *p != 0);
    let port =
        port.ok_or_else(|| bad(format_args!("[{n}].port"), format_args!("{} is not from 1 to 65535", rule.port)))?;
    let cidr = rule.cidr.as_deref().map(cidr).transpose()?;
    Ok(FirewallRule { protocol: rule.protocol, cidr, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_all_three_keys_and_nothing_else() {
        let good =
            r#"[{"protocol":"TCP","cidr":null,"port":80},{"protocol":"VRRP","cidr":"2001:db8::7","port":112.0}]"#;
        let rules = parse(good.as_bytes()).unwrap();
        assert_eq!((rules[0].cidr, rules[0].port), (None, 80));
        assert_eq!((rules[1].cidr.unwrap().to_string().as_str(), rules[1].port), ("2001:db8::7/128", 112));
        assert_eq!(parse(b"[]").unwrap(), []);
        for bad in [
            r#"{"protocol":"TCP","cidr":null,"port":80}"#,
            r#"[{"protocol":"TCP","port":80}]"#,
            r#"[{"cidr":null,"port":80}]"#,
            r#"[{"protocol":"TCP","cidr":null}]"#,
            r#"[{"protocol":"tcp","cidr":null,"port":80}]"#,
            r#"[{"protocol":"ICMP","cidr":null,"port":80}]"#,
            r#"[{"protocol":"TCP","cidr":null,"port":0}]"#,
            r#"[{"protocol":"TCP","cidr":null,"port":65536}]"#,
            r#"[{"protocol":"TCP","cidr":null,"port":80.5}]"#,
            r#"[{"protocol":"TCP","cidr":null,"port":"80"}]"#,
            r#"[{"protocol":"TCP","cidr":"0.0.0.0/0 accept; drop","port":80}]"#,
            r#"[{"protocol":"TCP","cidr":null,"port":80,"more":1}]"#,
            "",
            "[] []",
        ] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert!(format!("{error:?}").contains("400 Bad Request: Invalid rules information"), "{bad}: {error:?}");
        }
    }
}
