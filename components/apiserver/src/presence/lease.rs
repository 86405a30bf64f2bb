//! The Lease of a server: `kube-system/apiserver-<name>`.

use std::{net::IpAddr, time::Duration};

use machinery::{
    ApiError, Resource, time,
    value::{int_at, str_at},
};
use serde_json::{Value, json};
use store::{KeyValue, Revision};

use crate::registry;

pub const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "apiserver-";
/// As upstream marks them.
const IDENTITY: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
/// Where others find the server.
const ADDRESS: &str = "kinstall.dev/address";

pub fn row() -> Result<&'static Resource, ApiError> {
    registry::find("coordination.k8s.io", "v1", "leases").ok_or_else(|| ApiError::internal("leases are not served"))
}

pub fn name(server: &str) -> String {
    format!("{PREFIX}{server}")
}

/// Where all of them lie.
pub fn prefix() -> String {
    row().map(|row| registry::key(row, NAMESPACE, PREFIX)).unwrap_or_default()
}

/// What a server says of itself.
pub struct Mine<'a> {
    pub server: &'a str,
    pub holder: &'a str,
    pub address: IpAddr,
    pub lasts: Duration,
}

impl Mine<'_> {
    /// Renewed; what others put there stays.
    pub fn object(&self, there: Option<&Value>) -> Value {
        let mut object = there.cloned().unwrap_or_else(|| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name(self.server), "namespace": NAMESPACE}})
        });
        let metadata = &mut object["metadata"];
        metadata["labels"][IDENTITY.0] = IDENTITY.1.into();
        metadata["labels"]["kubernetes.io/hostname"] = self.server.into();
        metadata["annotations"][ADDRESS] = self.address.to_string().into();
        let now = Value::from(time::now_micro());
        let continued = str_at(&object, "spec.holderIdentity") == self.holder;
        if !continued {
            object["spec"] = json!({"holderIdentity": self.holder, "acquireTime": now});
        }
        object["spec"]["leaseDurationSeconds"] = self.lasts.as_secs().into();
        object["spec"]["renewTime"] = now;
        object
    }
}

/// What another server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    pub server: String,
    pub address: IpAddr,
    pub lasts: Duration,
    pub revision: Revision,
}

impl Other {
    /// `None` if this is no server's Lease, or it has no address.
    pub fn of(kv: &KeyValue) -> Option<Self> {
        let object = registry::decode(row().ok()?, &kv.value, kv.mod_revision).ok()?;
        let metadata = &object["metadata"];
        if metadata["labels"][IDENTITY.0] != IDENTITY.1 {
            return None;
        }
        Some(Other {
            server: str_at(metadata, "name").strip_prefix(PREFIX)?.to_owned(),
            address: metadata["annotations"][ADDRESS].as_str()?.parse().ok()?,
            lasts: Duration::from_secs(int_at(&object, "spec.leaseDurationSeconds")?.try_into().ok()?),
            revision: kv.mod_revision,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use machinery::encoding;

    use super::*;

    #[test]
    fn a_server_finds_in_the_lease_what_another_wrote() {
        let address = "10.99.0.11".parse().unwrap();
        let mine = Mine { server: "cp1", holder: "cp1_x", address, lasts: Duration::from_secs(4) };
        let mut object = mine.object(None);
        assert!(row().unwrap().validate_create(&object).is_empty());
        object["metadata"]["annotations"]["theirs"] = "kept".into();
        let acquired = object["spec"]["acquireTime"].clone();
        let renewed = mine.object(Some(&object));
        assert_eq!(renewed["metadata"]["annotations"]["theirs"], "kept");
        assert_eq!(renewed["spec"]["acquireTime"], acquired);
        let kv = |object: &Value| KeyValue {
            key: prefix().as_str().into(),
            value: encoding::encode_stored(object),
            create_revision: 1,
            mod_revision: 2,
        };
        let other = Other { server: "cp1".into(), address, lasts: Duration::from_secs(4), revision: 2 };
        assert_eq!(Other::of(&kv(&renewed)), Some(other));
        object["metadata"]["labels"] = json!({});
        assert_eq!(Other::of(&kv(&object)), None, "somebody else's Lease");
    }
}
