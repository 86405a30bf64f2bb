//! EndpointSlices and Endpoints.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::support::{Cluster, deployment, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_pods() {
    let cluster = Cluster::start().await;
    cluster.create::<Service>("default", json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})).await;
    let slices = || async {
        cluster
            .api::<EndpointSlice>("default")
            .list(&ListParams::default().labels("kubernetes.io/service-name=web"))
            .await
            .unwrap()
            .items
    };
    eventually("an empty slice", || async { Some(slices().await).filter(|it| it.len() == 1) }).await;
    cluster.create::<Deployment>("default", deployment("web", "one", 2)).await;
    let ready = |it: &EndpointSlice| {
        it.endpoints.iter().flatten().filter(|it| it.conditions.as_ref().unwrap().ready == Some(true)).count()
    };
    let slice =
        eventually("two ready endpoints", || async { slices().await.into_iter().find(|it| ready(it) == 2) }).await;
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
    assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].kind, "Service");
    let full = |it: &Endpoints| it.subsets.iter().flatten().flat_map(|it| it.addresses.iter().flatten()).count() == 2;
    eventually("Endpoints", || async { cluster.get::<Endpoints>("default", "web").await.filter(full) }).await;
    cluster.merge::<Deployment>("default", "web", json!({"spec": {"replicas": 0}})).await;
    eventually("no endpoints", || async {
        Some(slices().await).filter(|it| it.iter().all(|it| it.endpoints.as_ref().is_none_or(Vec::is_empty)))
    })
    .await;
    assert_eq!(slices().await.len(), 1);
    cluster.api::<Service>("default").delete("web", &DeleteParams::default()).await.unwrap();
    eventually("no slices", || async { Some(slices().await).filter(Vec::is_empty) }).await;
    eventually("no Endpoints", || async {
        Some(cluster.get::<Endpoints>("default", "web").await).filter(Option::is_none)
    })
    .await;
    assert!(cluster.get::<Endpoints>("default", "kubernetes").await.is_some(), "the API server's own stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_addresses_stays_while_services_need_it() {
    let cluster = Cluster::bare().await;
    let ranges = Api::<ServiceCIDR>::all(cluster.client.clone());
    let ready = |range: &ServiceCIDR| {
        let conditions = range.status.iter().flat_map(|it| it.conditions.iter().flatten());
        conditions.map(|it| (it.status.clone(), it.reason.clone(), it.message.clone())).next()
    };
    let condition =
        |status: &str, reason: &str, message: &str| Some((status.to_owned(), reason.to_owned(), message.to_owned()));
    cluster
        .create_global::<ServiceCIDR>(json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/28"]}}))
        .await;
    let made = eventually("the range to be ready", || async {
        ranges.get_opt("more").await.unwrap().filter(|it| ready(it).is_some())
    })
    .await;
    assert_eq!(ready(&made), condition("True", "", "Kubernetes Service CIDR is ready"));
    assert_eq!(made.metadata.finalizers.unwrap(), ["networking.k8s.io/service-cidr-finalizer"]);
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.97.0.7", "ports": [{"port": 80}]}});
    cluster.create::<Service>("default", service.clone()).await;
    let address = Api::<IPAddress>::all(cluster.client.clone()).get("10.97.0.7").await.unwrap();
    assert_eq!(address.spec.parent_ref.name, "s");
    ranges.delete("more", &DeleteParams::default()).await.unwrap();
    let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
    let wanted = condition("False", "Terminating", why);
    eventually("the range to say why it stays", || async {
        ranges.get_opt("more").await.unwrap().filter(|it| ready(it) == wanted)
    })
    .await;
    cluster.api::<Service>("default").delete("s", &DeleteParams::default()).await.unwrap();
    eventually("the range to go", || async { Some(ranges.get_opt("more").await.unwrap()).filter(Option::is_none) })
        .await;
}
