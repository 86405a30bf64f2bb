//! WordPress through the Ingress, as its users do: install, log in, publish a post with an image, read both back.
//!
//! Uses WordPress's REST API with cookie authentication (developer.wordpress.org/rest-api) after a login by form.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use super::Report;
use crate::api::wait::{self, pod_ready};
use crate::cluster::Cluster;
use crate::state::{Published, StateDir, WordPressState};

const NAMESPACE: &str = "wordpress";
/// How long HTTP may take to work after the pods are Ready: the Ingress has to learn of them.
const PATIENCE: Duration = Duration::from_secs(60);
/// A small PNG; WordPress looks into what it is given.
const IMAGE: &[u8] = include_bytes!("../../../templates/sample/image.png");

/// Where the site answers.
pub fn url(cluster: &Cluster) -> Option<(String, IpAddr)> {
    let sample = cluster.wordpress.as_ref()?;
    let host = cluster.hosts.iter().find(|host| host.worker).or(cluster.hosts.first())?;
    let name = if sample.host.is_empty() { host.node_address.to_string() } else { sample.host.clone() };
    Some((format!("http://{name}/"), host.node_address))
}

/// All checks. `restart`: also delete both pods and read back from what their volumes kept.
pub async fn run(report: &mut Report<'_>, client: &Client, cluster: &Cluster, state: &StateDir, restart: bool) {
    let Some((url, address)) = url(cluster) else { return };
    let hint = "see `kubectl -n wordpress get pods,pvc -o wide` and `kubectl -n wordpress logs` of both pods";
    let ingress = "see `kubectl -n kube-system logs daemonset/kinstall-ingress` and `kubectl -n wordpress get ingress,endpointslices`";
    let site = report
        .check("WordPress answers by the Ingress", ingress, async {
            let site = Site::new(&url, address, state.wordpress()?)?;
            let status = site.patiently(|| site.answers()).await?;
            Ok((site, format!("{url} at {address}: {status}")))
        })
        .await;
    let Some(mut site) = site else { return };
    if report.check("WordPress is installed and logs in", hint, site.install_and_log_in()).await.is_none() {
        return;
    }
    let published = report.check("a post with an image is published", hint, site.publish_once(state)).await;
    let Some(published) = published else { return };
    if report.check("post and image are read back", hint, site.read_back(&published)).await.is_none() || !restart {
        return;
    }
    if report.check("both pods are replaced", hint, replace_pods(client, cluster.limits.ready_timeout)).await.is_none()
    {
        return;
    }
    let hint =
        "the volumes lost what was in them: see `kubectl get pv -o yaml` and /var/lib/kinstall/volumes on the node";
    report
        .check("post and image are still there", hint, async { site.patiently(|| site.read_back(&published)).await })
        .await;
}

/// Waits until the sample's pods are Ready.
pub async fn pods_ready(client: &Client, timeout: Duration) -> anyhow::Result<((), String)> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let all = wait::until(pods, watcher::Config::default(), timeout, |pods| both_ready(pods.values())).await;
    match all {
        Ok(_) => Ok(((), "2 of 2".into())),
        Err(pods) => bail!(
            "the pods are not Ready after {} s; there are: {}",
            timeout.as_secs(),
            pods.into_keys().collect::<Vec<_>>().join(", ")
        ),
    }
}

fn both_ready<'p>(pods: impl Iterator<Item = &'p Pod>) -> bool {
    let ready: Vec<_> = pods.filter(|pod| pod_ready(pod)).filter_map(|pod| pod.labels().get("app").cloned()).collect();
    ["mariadb", "wordpress"].iter().all(|app| ready.iter().any(|have| have == app))
}

async fn replace_pods(client: &Client, timeout: Duration) -> anyhow::Result<((), String)> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let old = pods.list(&ListParams::default()).await?;
    let uids: Vec<_> = old.items.iter().filter_map(ResourceExt::uid).collect();
    for pod in &old {
        match pods.delete(&pod.name_any(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => drop(result.with_context(|| format!("cannot delete the pod {}", pod.name_any()))?),
        }
    }
    let fresh = |pod: &&Pod| pod.uid().is_some_and(|uid| !uids.contains(&uid));
    let replaced =
        wait::until(pods, watcher::Config::default(), timeout, |pods| both_ready(pods.values().filter(fresh))).await;
    ensure!(replaced.is_ok(), "no new pods are Ready after {} s", timeout.as_secs());
    Ok(((), format!("{} deleted, 2 Ready again", uids.len())))
}

/// A WordPress site and a session with it.
struct Site {
    http: reqwest::Client,
    base: Url,
    address: SocketAddr,
    state: WordPressState,
    nonce: String,
}

impl Site {
    fn new(url: &str, address: IpAddr, state: WordPressState) -> anyhow::Result<Self> {
        let base = Url::parse(url)?;
        let host = base.host_str().unwrap_or_default().to_owned();
        let address = SocketAddr::new(address, 80);
        let http = reqwest::Client::builder()
            .cookie_store(true)
            .redirect(Policy::none())
            .no_proxy()
            .resolve(&host, address)
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { http, base, address, state, nonce: String::new() })
    }

    fn at(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(path)?)
    }

    /// Repeats until it works: nobody tells an HTTP client when a site begins to answer.
    async fn patiently<T, F: Future<Output = anyhow::Result<T>>>(&self, work: impl Fn() -> F) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            match work().await {
                Err(_) if started.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(200)).await,
                result => return result,
            }
        }
    }

    async fn answers(&self) -> anyhow::Result<StatusCode> {
        let response = self.http.get(self.at("wp-login.php")?).send().await?;
        let status = response.status();
        ensure!(status.is_success() || status.is_redirection(), "wp-login.php answers {status}");
        Ok(status)
    }

    async fn install_and_log_in(&mut self) -> anyhow::Result<((), String)> {
        let response = self.http.get(self.at("wp-login.php")?).send().await?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fresh = location.contains("install.php");
        if fresh {
            self.install().await?;
        }
        self.log_in().await?;
        Ok(((), if fresh { "installed now".into() } else { "was installed".into() }))
    }

    async fn install(&self) -> anyhow::Result<()> {
        let form = [
            ("weblog_title", "kinstall"),
            ("user_name", &self.state.admin_user),
            ("admin_password", &self.state.admin_password),
            ("admin_password2", &self.state.admin_password),
            ("pw_weak", "on"),
            ("admin_email", "admin@example.com"),
            ("blog_public", "0"),
            ("language", ""),
            ("Submit", "Install WordPress"),
        ];
        let url = self.at("wp-admin/install.php?step=2")?;
        let response = self.http.post(url).timeout(Duration::from_secs(120)).form(&form).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "install.php answers {status}");
        ensure!(text.contains("wp-login.php"), "install.php did not finish: {}", excerpt(&text));
        Ok(())
    }

    async fn log_in(&mut self) -> anyhow::Result<()> {
        // the first page sets the cookie by which WordPress sees that cookies work
        self.http.get(self.at("wp-login.php")?).send().await?;
        let form = [
            ("log", self.state.admin_user.as_str()),
            ("pwd", &self.state.admin_password),
            ("wp-submit", "Log In"),
            ("testcookie", "1"),
            ("redirect_to", self.at("wp-admin/")?.as_str()),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let response = self.http.post(self.at("wp-login.php")?).form(&form).send().await?;
        ensure!(
            response.status().is_redirection(),
            "the login was refused ({}); were the passwords in .kinstall/ lost?",
            response.status()
        );
        let response = self.http.get(self.at("wp-admin/admin-ajax.php?action=rest-nonce")?).send().await?;
        ensure!(response.status().is_success(), "no REST nonce: {}", response.status());
        self.nonce = response.text().await?.trim().to_owned();
        ensure!(
            self.nonce.len() >= 8 && self.nonce.chars().all(|c| c.is_ascii_alphanumeric()),
            "no REST nonce: {}",
            excerpt(&self.nonce)
        );
        Ok(())
    }

    /// Publishes, unless what an earlier run published is still there.
    async fn publish_once(&mut self, state: &StateDir) -> anyhow::Result<(Published, String)> {
        if let Some(published) = self.state.post.clone()
            && self.read_back(&published).await.is_ok()
        {
            let text = format!("post {} was there", published.id);
            return Ok((published, text));
        }
        let image = self.upload().await?;
        let title = format!("kinstall {}", uuid::Uuid::new_v4().simple());
        let source = image["source_url"].as_str().context("the uploaded image has no URL")?;
        let post = json!({
            "title": title,
            "status": "publish",
            "featured_media": image["id"],
            "content": format!("<p>Published by kinstall to prove this cluster.</p><img src=\"{source}\" alt=\"{title}\"/>"),
        });
        let request =
            self.http.post(self.at("index.php?rest_route=/wp/v2/posts")?).header("X-WP-Nonce", &self.nonce).json(&post);
        let post = created(request, "publish the post").await?;
        let id = post["id"].as_u64().context("the post has no id")?;
        let image_path =
            Url::parse(source).map(|url| url.path().to_owned()).with_context(|| format!("{source:?} is no URL"))?;
        let published = Published { id, title, image_path };
        self.state.post = Some(published.clone());
        state.save_wordpress(&self.state)?;
        let text = format!("post {id}, image {}", published.image_path);
        Ok((published, text))
    }

    async fn upload(&self) -> anyhow::Result<Value> {
        let request = self
            .http
            .post(self.at("index.php?rest_route=/wp/v2/media")?)
            .header("X-WP-Nonce", &self.nonce)
            .header(CONTENT_TYPE, "image/png")
            .header(CONTENT_DISPOSITION, "attachment; filename=\"kinstall.png\"")
            .body(IMAGE);
        created(request, "upload the image").await
    }

    /// As any visitor: the post's page has its title, the image its bytes.
    async fn read_back(&self, published: &Published) -> anyhow::Result<((), String)> {
        let visitor = reqwest::Client::builder()
            .no_proxy()
            .resolve(self.base.host_str().unwrap_or_default(), self.address)
            .timeout(Duration::from_secs(30))
            .build()?;
        let page = visitor.get(self.at(&format!("?p={}", published.id))?).send().await?;
        ensure!(page.status().is_success(), "the post's page answers {}", page.status());
        ensure!(
            page.text().await?.contains(&published.title),
            "the page of post {} does not show its title",
            published.id
        );
        let image = visitor.get(self.at(&published.image_path)?).send().await?;
        ensure!(image.status().is_success(), "the image {} answers {}", published.image_path, image.status());
        ensure!(image.bytes().await? == IMAGE, "the image {} came back changed", published.image_path);
        Ok(((), format!("post {}", published.id)))
    }
}

async fn created(request: reqwest::RequestBuilder, what: &str) -> anyhow::Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status == StatusCode::CREATED, "cannot {what}: {status}: {}", excerpt(&text));
    serde_json::from_str(&text).with_context(|| format!("cannot {what}: the answer is no JSON: {}", excerpt(&text)))
}

/// The beginning of a page's text without its markup.
fn excerpt(html: &str) -> String {
    let mut text = String::new();
    let mut tag = false;
    for c in html.chars() {
        match c {
            '<' => tag = true,
            '>' => tag = false,
            c if !tag => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}
