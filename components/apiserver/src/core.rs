//! What every handler shares: configuration, store, observed state, keys, the way to kubelets, counters.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{policy::Policies, webhook::Webhooks},
    authn::keys::{SigningKey, VerifyingKey},
    callback::Callbacks,
    config::Config,
    crd::Served,
    kubelet::KubeletClient,
    memo::Memo,
    metrics::Metrics,
    observed::Observed,
    openapi::Published,
};

pub struct Core {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub observed: Arc<Observed>,
    pub verifying_keys: Vec<VerifyingKey>,
    pub signing_key: SigningKey,
    pub kubelets: Option<KubeletClient>,
    /// Connections to webhooks, and the webhooks that are configured.
    pub callbacks: Callbacks,
    pub webhooks: Webhooks,
    pub policies: Policies,
    pub metrics: Metrics,
    /// Objects of recent events, decoded once for all watchers with selectors.
    pub memo: Memo,
    /// OpenAPI documents that were asked for.
    pub published: Published,
    /// Custom resources.
    pub custom: Served,
    /// Ends watches and listeners.
    pub stopping: CancellationToken,
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
            verifying_keys
                .push(VerifyingKey::from_pem(&read(file)?).with_context(|| format!("cannot use {}", file.display()))?);
        }
        anyhow::ensure!(
            verifying_keys.iter().any(|k| k.id == signing_key.id),
            "serviceAccountKeyFiles does not hold the public half of {}; tokens would be refused as soon as they are issued",
            signing_file.display()
        );
        let kubelets = KubeletClient::from_config(&config)?;
        let callbacks = Arc::new(Callbacks::new(store.clone()));
        let custom = Served::load(&*store, callbacks).await.context("cannot read the custom resource definitions")?;
        let observed = Observed::start(store.clone()).await.context("cannot read the store")?;
        Ok(Arc::new(Core {
            callbacks: Callbacks::new(store.clone()),
            webhooks: Webhooks::default(),
            policies: Policies::default(),
            config,
            store,
            observed,
            verifying_keys,
            signing_key,
            kubelets,
            metrics: Metrics::default(),
            memo: Memo::default(),
            published: Published::default(),
            custom,
            stopping: CancellationToken::new(),
        }))
    }
}
