//! The CNI plugin: environment and standard input in, a result or an error as JSON out (CNI specification 1.1).
//!
//! Synchronous and short: no runtime, no other process, a handful of kernel calls.

mod attach;
mod conf;
mod hostport;
mod ipam;
mod loopback;

use std::io::Read;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use conf::{Call, NetConf};

pub use attach::restore_routes;
pub use hostport::TABLE as HOSTPORT_TABLE;
pub use ipam::peek;

const VERSIONS: [&str; 5] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0", "0.3.0"];
/// Codes of the CNI specification: below 100 they are its own, above the plugin's.
const CODE_ENVIRONMENT: u32 = 4;
const CODE_DECODE: u32 = 6;
const CODE_FAILED: u32 = 100;

/// Runs one CNI command; the exit status for the process.
#[must_use]
pub fn plugin_main() -> i32 {
    let mut input = String::new();
    let read = std::io::stdin().read_to_string(&mut input);
    let version = version_of(&input);
    match read.context("cannot read standard input").map_err(|e| (CODE_DECODE, e)).and_then(|_| dispatch(&input)) {
        Ok(Value::Null) => 0,
        Ok(result) => {
            println!("{result}");
            0
        }
        Err((code, error)) => {
            println!("{}", json!({"cniVersion": version, "code": code, "msg": format!("{error:#}"), "details": ""}));
            1
        }
    }
}

fn version_of(input: &str) -> String {
    let conf: Option<Value> = serde_json::from_str(input).ok();
    conf.and_then(|c| Some(c.get("cniVersion")?.as_str()?.to_string())).unwrap_or_else(|| "1.0.0".into())
}

fn dispatch(input: &str) -> Result<Value, (u32, anyhow::Error)> {
    let command = std::env::var("CNI_COMMAND").map_err(|_| (CODE_ENVIRONMENT, anyhow!("CNI_COMMAND is not set")))?;
    if command == "VERSION" {
        return Ok(json!({"cniVersion": version_of(input), "supportedVersions": VERSIONS}));
    }
    let conf: Value = serde_json::from_str(input)
        .map_err(|e| (CODE_DECODE, anyhow!("the network configuration is not JSON: {e}")))?;
    if conf.get("type").and_then(Value::as_str) == Some("loopback") {
        return loopback::run(&command, &version_of(input)).map_err(|e| (CODE_FAILED, e));
    }
    let conf: NetConf = serde_json::from_value(conf)
        .map_err(|e| (CODE_DECODE, anyhow!("the network configuration is not ours: {e}")))?;
    run(&command, &conf).map_err(|e| (CODE_FAILED, e))
}

fn run(command: &str, conf: &NetConf) -> anyhow::Result<Value> {
    match command {
        "ADD" => attach::add(conf, &Call::from_env()?),
        "DEL" => attach::del(conf, &Call::from_env_for_del()?).map(|()| Value::Null),
        "CHECK" => attach::check(conf, &Call::from_env()?).map(|()| Value::Null),
        "GC" => attach::gc(conf).map(|()| Value::Null),
        "STATUS" => ipam::Pool::open(conf).map(|_| Value::Null),
        other => bail!("CNI_COMMAND {other} is not known"),
    }
}
