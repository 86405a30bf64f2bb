//! What every handler shares: configuration, store, observed state, keys, the way to kubelets, counters.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::{pod_security::PodSecurity, policy::Policies, webhook::Webhooks},
    aggregation::Aggregator,
    audit::Audit,
    authn::{
        Authn,
        keys::{SigningKey, VerifyingKey},
    },
    callback::Callbacks,
    config::Config,
    crd::Served,
    encryption::EncryptedStore,
    flowcontrol::FlowControl,
    impersonation::LastModes,
    kubelet::KubeletClient,
    memo::Memo,
    metrics::Metrics,
    observed::Observed,
    openapi::Published,
};

pub struct Core {
    pub config: Config,
    /// What tells this server from the others on its store.
    pub name: String,
    /// Gives plain objects, whatever lies on disk.
    pub store: Arc<dyn Store>,
    /// The same, if values are encrypted.
    pub encryption: Option<Arc<EncryptedStore>>,
    pub observed: Arc<Observed>,
    pub authn: Authn,
    /// `None`: nothing is audited.
    pub audit: Option<Arc<Audit>>,
    pub impersonation: LastModes,
    pub flow: Arc<FlowControl>,
    pub pod_security: PodSecurity,
    pub verifying_keys: Vec<VerifyingKey>,
    pub signing_key: SigningKey,
    pub kubelets: Option<KubeletClient>,
    /// Connections to webhooks of all kinds, and those that judge requests.
    pub callbacks: Arc<Callbacks>,
    pub webhooks: Webhooks,
    pub policies: Policies,
    pub metrics: Metrics,
    /// Objects of recent events, decoded once for all watchers with selectors.
    pub memo: Memo,
    /// What admission looks at for nearly every write.
    pub looked_at: Memo,
    /// OpenAPI documents that were asked for.
    pub published: Published,
    /// Custom resources.
    pub custom: Served,
    /// The server is still there, but nobody should come any more.
    pub leaving: CancellationToken,
    /// What extension servers answer for.
    pub aggregation: Aggregator,
    /// Ends watches and listeners.
    pub stopping: CancellationToken,
    /// Requests under way that end by themselves.
    pub requests: TaskTracker,
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Core {
    pub async fn open(config: Config, store: Arc<dyn Store>) -> anyhow::Result<Arc<Self>> {
        config.check()?;
        // rules of custom resources are written in CEL
        machinery::structural::rules::install(Box::new(machinery::expressions::rules::Cel));
        let signing_file = &config.service_account_signing_key_file;
        let signing_key = SigningKey::from_pem(&read(signing_file)?)
            .with_context(|| format!("cannot use {}", signing_file.display()))?;
        let mut verifying_keys = Vec::new();
        for file in &config.service_account_key_files {
            let keys = VerifyingKey::all_from_pem(&read(file)?);
            verifying_keys.extend(keys.with_context(|| format!("cannot use {}", file.display()))?);
        }
        anyhow::ensure!(
            verifying_keys.iter().any(|k| k.id == signing_key.id),
            "serviceAccountKeyFiles does not hold the public half of {}; tokens would be refused as soon as they are issued",
            signing_file.display()
        );
        let kubelets = KubeletClient::from_config(&config)?;
        let authn = Authn::from_config(&config)?;
        let stopping = CancellationToken::new();
        let file = config.encryption_provider_config.as_ref();
        let encryption = file.map(|file| EncryptedStore::open(store.clone(), file)).transpose()?;
        let store = match &encryption {
            Some(encrypted) => {
                encrypted.reload_when_changed(stopping.clone());
                encrypted.clone() as Arc<dyn Store>
            }
            None => store,
        };
        let callbacks = Arc::new(Callbacks::new(store.clone()));
        let custom =
            Served::load(&*store, callbacks.clone()).await.context("cannot read the custom resource definitions")?;
        let aggregation = Aggregator::load(&config, store.clone()).await.context("cannot read the APIServices")?;
        let audit = config.audit.as_ref().map(Audit::from_config).transpose()?;
        let flow = FlowControl::new(&config.fairness);
        let pod_security = PodSecurity::from_config(&config.pod_security)?;
        let observed = Observed::start(store.clone(), flow.clone()).await.context("cannot read the store")?;
        Ok(Arc::new(Core {
            callbacks,
            webhooks: Webhooks::default(),
            policies: Policies::default(),
            name: config.server_name()?,
            config,
            store,
            encryption,
            observed,
            authn,
            audit,
            impersonation: LastModes::default(),
            flow,
            pod_security,
            verifying_keys,
            signing_key,
            kubelets,
            metrics: Metrics::default(),
            // enough for one burst; the objects are small
            memo: Memo::new(128),
            looked_at: Memo::new(1024),
            published: Published::default(),
            custom,
            leaving: CancellationToken::new(),
            aggregation,
            stopping,
            requests: TaskTracker::new(),
        }))
    }
}
