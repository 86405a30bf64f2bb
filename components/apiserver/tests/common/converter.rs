//! A conversion webhook for a kind whose v1 has `spec.hostPort` and whose v2 has `spec.host` and `spec.port`.

use std::{convert::Infallible, sync::Arc};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};

use super::Api;

/// Answers conversion reviews: v1 has `hostPort`, v2 has `host` and `port`.
async fn convert(
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<bytes::Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let to = review["request"]["desiredAPIVersion"].as_str().unwrap();
    let mut objects = review["request"]["objects"].clone();
    for object in objects.as_array_mut().unwrap() {
        object["apiVersion"] = to.into();
        let Some(spec) = object["spec"].as_object_mut() else { continue };
        if to.ends_with("/v2") {
            if let Some(text) = spec.remove("hostPort") {
                let (host, port) = text.as_str().unwrap().split_once(':').unwrap();
                spec.insert("host".into(), host.into());
                spec.insert("port".into(), port.into());
            }
        } else if let (Some(host), Some(port)) = (spec.remove("host"), spec.remove("port")) {
            spec.insert("hostPort".into(), format!("{}:{}", host.as_str().unwrap(), port.as_str().unwrap()).into());
        }
    }
    let answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "response": {"uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": objects}});
    Ok(http::Response::new(Full::new(answer.to_string().into())))
}

/// A webhook server with the API server's own certificate; its address.
pub async fn start(api: &Api) -> String {
    let file = |name: &str| api.path().join(name);
    let certificates =
        CertificateDer::pem_file_iter(file("apiserver.crt")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("apiserver.key")).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let tls = acceptor.accept(stream).await.unwrap();
                let service = hyper::service::service_fn(convert);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    format!("https://{address}/convert")
}
