//! The container runtime behind its CRI v1 socket.
//!
//! Upstream contract: <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto>.

pub mod observe;
pub mod pleg;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

const MAX_MESSAGE: usize = 16 * 1024 * 1024;

pub const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
pub const LABEL_CONTAINER: &str = "io.kubernetes.container.name";

/// A handle on the runtime; cheap to clone, connects when first used and again after a restart.
#[derive(Clone)]
pub struct Cri {
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

impl Cri {
    pub fn new(socket: PathBuf) -> Result<Cri> {
        let channel =
            Endpoint::try_from("http://cri.local")?.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
            }));
        Ok(Cri {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        })
    }

    fn rt(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    pub async fn version(&self) -> Result<cri::VersionResponse> {
        let answer = self.rt().version(cri::VersionRequest { version: "v1".into() }).await;
        Ok(answer.context("container runtime does not answer")?.into_inner())
    }

    pub async fn status(&self) -> Result<cri::StatusResponse> {
        let call = async { self.rt().status(cri::StatusRequest { verbose: false }).await };
        let answer = tokio::time::timeout(Duration::from_secs(5), call).await;
        Ok(answer
            .context("container runtime did not answer in 5 s")?
            .map_err(plain)
            .context("container runtime is down")?
            .into_inner())
    }

    pub async fn sandboxes(&self, uid: Option<&str>) -> Result<Vec<cri::PodSandbox>> {
        let filter = uid.map(|uid| cri::PodSandboxFilter { label_selector: uid_selector(uid), ..Default::default() });
        let answer = self.rt().list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await;
        Ok(answer.map_err(plain).context("cannot list pod sandboxes")?.into_inner().items)
    }

    pub async fn containers(&self, uid: Option<&str>) -> Result<Vec<cri::Container>> {
        let filter = uid.map(|uid| cri::ContainerFilter { label_selector: uid_selector(uid), ..Default::default() });
        let answer = self.rt().list_containers(cri::ListContainersRequest { filter }).await;
        Ok(answer.map_err(plain).context("cannot list containers")?.into_inner().containers)
    }

    /// `None` if the container is gone.
    pub async fn container_status(&self, id: &str) -> Result<Option<cri::ContainerStatus>> {
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: false };
        match self.rt().container_status(request).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(plain(status)).with_context(|| format!("cannot read the status of container {id}")),
        }
    }

    /// `None` if the sandbox is gone.
    pub async fn sandbox_status(&self, id: &str) -> Result<Option<cri::PodSandboxStatus>> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        match self.rt().pod_sandbox_status(request).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(plain(status)).with_context(|| format!("cannot read the status of sandbox {id}")),
        }
    }

    pub async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: String) -> Result<String> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler };
        let answer = self.rt().run_pod_sandbox(request).await;
        Ok(answer.map_err(plain)?.into_inner().pod_sandbox_id)
    }

    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let answer = self.rt().stop_pod_sandbox(cri::StopPodSandboxRequest { pod_sandbox_id: id.into() }).await;
        gone_is_fine(answer.map(|_| ())).with_context(|| format!("cannot stop sandbox {id}"))
    }

    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let answer = self.rt().remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: id.into() }).await;
        gone_is_fine(answer.map(|_| ())).with_context(|| format!("cannot remove sandbox {id}"))
    }

    pub async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.rt().create_container(request).await.map_err(plain)?.into_inner().container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<()> {
        let answer = self.rt().start_container(cri::StartContainerRequest { container_id: id.into() }).await;
        answer.map(|_| ()).map_err(plain)
    }

    /// Asks the container to end and kills it after `timeout` seconds.
    pub async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        let answer = self.rt().stop_container(cri::StopContainerRequest { container_id: id.into(), timeout }).await;
        gone_is_fine(answer.map(|_| ())).with_context(|| format!("cannot stop container {id}"))
    }

    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let answer = self.rt().remove_container(cri::RemoveContainerRequest { container_id: id.into() }).await;
        gone_is_fine(answer.map(|_| ())).with_context(|| format!("cannot remove container {id}"))
    }

    pub async fn exec_sync(&self, id: &str, cmd: Vec<String>, timeout: Duration) -> Result<cri::ExecSyncResponse> {
        let timeout = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request = cri::ExecSyncRequest { container_id: id.into(), cmd, timeout };
        Ok(self.rt().exec_sync(request).await.map_err(plain)?.into_inner())
    }

    pub async fn image(&self, image: &str) -> Result<Option<cri::Image>> {
        let request = cri::ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        let answer = self.images.clone().image_status(request).await;
        Ok(answer.map_err(plain).with_context(|| format!("cannot look up image {image}"))?.into_inner().image)
    }

    pub async fn pull(
        &self,
        image: &str,
        auth: Option<cri::AuthConfig>,
        sandbox: Option<cri::PodSandboxConfig>,
    ) -> Result<String> {
        let request = cri::PullImageRequest { image: Some(image_spec(image)), auth, sandbox_config: sandbox };
        Ok(self.images.clone().pull_image(request).await.map_err(plain)?.into_inner().image_ref)
    }

    pub async fn list_images(&self) -> Result<Vec<cri::Image>> {
        let answer = self.images.clone().list_images(cri::ListImagesRequest { filter: None }).await;
        Ok(answer.map_err(plain).context("cannot list images")?.into_inner().images)
    }

    pub async fn remove_image(&self, id: &str) -> Result<()> {
        let request = cri::RemoveImageRequest { image: Some(image_spec(id)) };
        let answer = self.images.clone().remove_image(request).await;
        answer.map(|_| ()).map_err(plain).with_context(|| format!("cannot remove image {id}"))
    }
}

pub fn image_spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.into(), ..Default::default() }
}

fn uid_selector(uid: &str) -> std::collections::HashMap<String, String> {
    [(LABEL_POD_UID.to_string(), uid.to_string())].into()
}

/// A gRPC status as people read it: the message, not the envelope.
fn plain(status: tonic::Status) -> anyhow::Error {
    if status.message().is_empty() {
        return anyhow::anyhow!("{}", status.code());
    }
    anyhow::anyhow!("{}", status.message())
}

fn gone_is_fine(answer: std::result::Result<(), tonic::Status>) -> Result<()> {
    match answer {
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        other => other.map_err(plain),
    }
}
