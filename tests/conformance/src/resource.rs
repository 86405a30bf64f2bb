//! Where resources lie. Only those that tests name.

/// A resource's place in the API.
#[derive(Clone, Copy, Debug)]
pub struct Res {
    /// `api/v1` or `apis/<group>/<version>`.
    pub api: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
}

const fn namespaced(api: &'static str, plural: &'static str, kind: &'static str) -> Res {
    Res { api, plural, kind, namespaced: true }
}

const fn cluster(api: &'static str, plural: &'static str, kind: &'static str) -> Res {
    Res { api, plural, kind, namespaced: false }
}

const ADMISSION: &str = "apis/admissionregistration.k8s.io/v1";
const CERTIFICATES: &str = "apis/certificates.k8s.io/v1";
const FLOW: &str = "apis/flowcontrol.apiserver.k8s.io/v1";

impl Res {
    pub const CONFIG_MAP: Res = namespaced("api/v1", "configmaps", "ConfigMap");
    pub const CORE_EVENT: Res = namespaced("api/v1", "events", "Event");
    pub const LIMIT_RANGE: Res = namespaced("api/v1", "limitranges", "LimitRange");
    pub const POD: Res = namespaced("api/v1", "pods", "Pod");
    pub const POD_TEMPLATE: Res = namespaced("api/v1", "podtemplates", "PodTemplate");
    pub const RC: Res = namespaced("api/v1", "replicationcontrollers", "ReplicationController");
    pub const QUOTA: Res = namespaced("api/v1", "resourcequotas", "ResourceQuota");
    pub const SECRET: Res = namespaced("api/v1", "secrets", "Secret");
    pub const SERVICE: Res = namespaced("api/v1", "services", "Service");
    pub const SERVICE_ACCOUNT: Res = namespaced("api/v1", "serviceaccounts", "ServiceAccount");
    pub const NAMESPACE: Res = cluster("api/v1", "namespaces", "Namespace");
    pub const NODE: Res = cluster("api/v1", "nodes", "Node");
    pub const DEPLOYMENT: Res = namespaced("apis/apps/v1", "deployments", "Deployment");
    pub const REPLICA_SET: Res = namespaced("apis/apps/v1", "replicasets", "ReplicaSet");
    pub const LEASE: Res = namespaced("apis/coordination.k8s.io/v1", "leases", "Lease");
    pub const EVENT: Res = namespaced("apis/events.k8s.io/v1", "events", "Event");
    pub const ENDPOINT_SLICE: Res = namespaced("apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice");
    pub const CLUSTER_ROLE: Res = cluster("apis/rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole");
    pub const ROLE_BINDING: Res = namespaced("apis/rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding");
    pub const CRD: Res =
        cluster("apis/apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition");
    pub const API_SERVICE: Res = cluster("apis/apiregistration.k8s.io/v1", "apiservices", "APIService");
    pub const MUTATING: Res = cluster(ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration");
    pub const VALIDATING: Res = cluster(ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration");
    pub const MAP: Res = cluster(ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy");
    pub const MAP_BINDING: Res =
        cluster(ADMISSION, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding");
    pub const VAP: Res = cluster(ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy");
    pub const VAP_BINDING: Res =
        cluster(ADMISSION, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding");
    pub const FLOW_SCHEMA: Res = cluster(FLOW, "flowschemas", "FlowSchema");
    pub const PRIORITY_LEVEL: Res = cluster(FLOW, "prioritylevelconfigurations", "PriorityLevelConfiguration");
    pub const CSR: Res = cluster(CERTIFICATES, "certificatesigningrequests", "CertificateSigningRequest");
    pub const POD_CERTIFICATE: Res = namespaced(CERTIFICATES, "podcertificaterequests", "PodCertificateRequest");
    pub const TRUST_BUNDLE: Res = cluster(CERTIFICATES, "clustertrustbundles", "ClusterTrustBundle");
    pub const MIGRATION: Res =
        cluster("apis/storagemigration.k8s.io/v1", "storageversionmigrations", "StorageVersionMigration");

    /// Of all namespaces.
    pub fn everywhere(&self) -> String {
        format!("/{}/{}", self.api, self.plural)
    }

    pub fn collection(&self, namespace: &str) -> String {
        if self.namespaced {
            format!("/{}/namespaces/{namespace}/{}", self.api, self.plural)
        } else {
            self.everywhere()
        }
    }

    pub fn named(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> &'static str {
        self.api.strip_prefix("apis/").unwrap_or_else(|| self.api.trim_start_matches("api/"))
    }

    /// `""` for the core group.
    pub fn group(&self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }
}
