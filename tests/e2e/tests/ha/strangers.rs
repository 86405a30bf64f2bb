//! etcd's ports answer its members and the API servers, and nobody else.

use anyhow::{Result, bail, ensure};

use crate::Story;

/// Port and path, the leaf of who may ask there, and a part of the answer.
const PORTS: [(&str, &str, &str); 2] =
    [("2379/health", "apiserver-etcd-client", "\"health\":\"true\""), ("2380/members", "etcd-peer", "\"name\":\"h2\"")];

/// A worker asks without a certificate, and with one of the cluster's own authority; prints how curl ended, and the answer's status.
const ASK: &str = "for who in '' '--cert /var/lib/kubelet/pki/kubelet-client-current.pem'; do
    status=$(curl --silent --insecure --http1.1 --max-time 10 --output /dev/null --write-out '%{http_code}' $who https://URL)
    echo $? $status
done";

/// How curl ends where the other side does: in the handshake, or after it, when it has seen the certificate. What would be no refusal
/// is not among these: nobody listens, nobody answers, no certificate to send.
const REFUSED: [&str; 4] = ["35", "52", "55", "56"];

pub fn get_nothing(story: &Story) -> Result<()> {
    let (member, worker) = (story.lab.host(1), story.lab.host(4));
    for (place, leaf, answer) in PORTS {
        let url = format!("{}:{place}", member.address());
        let pki = "/etc/kinstall/pki";
        let keys = format!("--cacert {pki}/etcd-ca.crt --cert {pki}/{leaf}.crt --key {pki}/{leaf}.key");
        let said =
            member.ssh_ok(&format!("curl --silent --show-error --http1.1 --max-time 10 {keys} https://{url}"))?;
        ensure!(said.contains(answer), "{url} answers its own with {said}");

        let refused = worker.ssh_ok(&ASK.replace("URL", &url))?;
        ensure!(refused.lines().count() == 2, "{refused}");
        for line in refused.lines() {
            let Some((ended, status)) = line.split_once(' ') else { bail!("{url}: {line}") };
            ensure!(
                status == "000" && REFUSED.contains(&ended),
                "{url} does not refuse a stranger: curl ended with {ended}, the status is {status}"
            );
        }
        let plain = format!(
            "curl --silent --http1.1 --max-time 10 --output /dev/null --write-out '%{{http_code}}' http://{url}; true"
        );
        let status = worker.ssh_ok(&plain)?;
        // 400: that TLS is spoken here is all that is told
        ensure!(["000", "400"].contains(&status.as_str()), "{url} answers in plain text with {status}");
    }
    Ok(())
}
